"""What is inside a model and inside its compiled step; usable on any `tf.function`, whoever wrote it.

    step = tf.function(train_step, jit_compile=True)        # such as lambda x, y: model.train_step((x, y)) of Keras

    from tfcore.inspect.profile.compiler import inspect_step         # nothing is run
    report = inspect_step(step, images, labels)
    for kernel in report.top("flops"):
        print(kernel)                                        # fusion.33: model.py:88, blocks/3, Softmax, backward

    from tfcore.inspect.profile.step_profile import profile_step  # run under the profiler, beside measured ceilings
    profile = profile_step(step, images, labels, steps=20)
    print(text_report(profile, "my step"))                   # tfcore.inspect.pages.kernel_report
    page = html_report(profile, "my step")                   # tfcore.inspect.pages.kernel_page: one self-contained page

    from tfcore.inspect.profile.comparison import Form, comparison_text
    print(comparison_text([Form("mine", report), Form("theirs", inspect_step(other, images, labels))], "side by side"))

`python -m tests.support.keras_step` takes a Keras model's train step apart like this and sets it beside ours. The other
rooms: `audit` (what is dead, constant or ignored, and why), `numerics` (where a NaN came from), `graph.dtypes` (which
layer computes in which dtype), `pages` (tables and HTML), `figures`.
"""
