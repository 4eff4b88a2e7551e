"""What a person reads: terminal tables (`kernel_report`, `audit_report`, `parameters`) and self-contained HTML pages
(`page`, `kernel_page` with `memory_data`, `difference_page`), with one look.
"""
