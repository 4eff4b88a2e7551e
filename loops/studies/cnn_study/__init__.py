"""System 5's study: one convolution network, one change at a time.

rows.py says what is trained, tables.py what comes out of it, findings.py what the histories show, drawings.py the
pictures. `loops.studies.study` trains any study's runs.
"""
