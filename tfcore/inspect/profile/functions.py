"""Functions of others made ready to be taken apart: MODULE:FUNCTION, a Keras model, a SavedModel, with arguments.

step, arguments, about = load_function("my.module:train_step", "f32[32,224,224,3] s32[32]")
profile = profile_step(step, *arguments)
"""

import importlib
import importlib.util
import inspect
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf

_DTYPES = {
    "f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64", "pred": "bool",
    "s8": "int8", "s16": "int16", "s32": "int32", "s64": "int64", "u8": "uint8", "u16": "uint16", "u32": "uint32",
    "u64": "uint64", "c64": "complex64", "c128": "complex128",
}  # fmt: skip
_SHAPE = re.compile(r"(?P<dtype>\w+)\[(?P<sizes>[\d,\s]*)\]$")
_HOW = "say them by --args, such as --args 'f32[32,224,224,3] s32[32]'"


def load_function(name: str, arguments: str = "", *, batch: int = 1) -> tuple[Callable, tuple, str]:
    """Return (tf.function, its arguments, a sentence) of "MODULE:NAME", where MODULE is a module or a Python file.

    NAME is a tf.function, a function of tensors, or a Keras model, which is called as in inference. `arguments`: shapes
    such as "f32[2,3] s32[2]", or the name of a function that returns the arguments; without them those of the input
    signature or of the model's inputs, with `batch` for what is open.

    Raises:
        ValueError: for what is not there, cannot be called with the arguments, or cannot be traced.
    """
    module_name, _, path = name.rpartition(":")
    module = _module(module_name)
    found = _attribute(module, path, name)
    if not callable(found):
        raise ValueError(f"{name} is no function but a {type(found).__name__}: name a function of tensors or a model")
    values = _given(arguments, module) if arguments else None
    if hasattr(found, "layers") and hasattr(found, "train_step"):  # a Keras model, by what it has
        specs = [tf.TensorSpec(item.shape, item.dtype) for item in found.inputs] if found.inputs else None
        model = found
        found = tf.function(lambda *inputs: model(inputs[0] if len(inputs) == 1 else list(inputs), training=False))
        about = f"{name}, called as in inference"
    else:
        specs = getattr(found, "input_signature", None)
        about = name
    if not hasattr(found, "experimental_get_compiler_ir"):
        found = tf.function(found, autograph=False)
    if values is None:
        values = _made_up(specs if specs is not None else _without_parameters(found, name), name, batch)
    return _traced(found, values, name), values, about


def load_saved_model(path: Path, arguments: str = "", *, batch: int = 1) -> tuple[Callable, tuple, str]:
    """Return (tf.function, its arguments, a sentence) of a SavedModel's signature "serving_default", else of its first.

    Raises:
        ValueError: for a folder that cannot be loaded or has no signature, and for arguments that do not fit.
    """
    try:
        model = tf.saved_model.load(str(path))
    except Exception as error:  # of many kinds
        raise ValueError(f"{path}: the SavedModel cannot be loaded ({_short(error)})") from None
    names = list(model.signatures)
    if not names:
        raise ValueError(f"{path}: the SavedModel has no signature: save it with signatures=…")
    name = "serving_default" if "serving_default" in names else names[0]
    signature = model.signatures[name]
    specs = signature.structured_input_signature[1]
    values = _given(arguments, None) if arguments else _made_up(list(specs.values()), str(path), batch)

    def call(*inputs):
        return signature(**dict(zip(specs, inputs, strict=True)))

    function = tf.function(call, autograph=False)
    function.model = model  # its variables live as long as it does
    return _traced(function, values, str(path)), values, f"{path}, signature {name}"


def _module(name: str):
    if not name:
        raise ValueError("MODULE:FUNCTION needs a module before the colon, such as my.package.model:step")
    sys.path[:0] = [""] if "" not in sys.path else []
    try:
        if name.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(name).stem, name)
            if spec is None or spec.loader is None:
                raise ImportError(f"{name} is no Python file")
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
            return module
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(f"no module {error.name!r} can be imported: stand in its folder, or set PYTHONPATH") from None
    except Exception as error:  # whatever the module's own code raises
        raise ValueError(f"{name}: the module cannot be imported ({_short(error)})") from None


def _attribute(module, path: str, name: str):
    found = module
    for part in path.split("."):
        if not hasattr(found, part):
            names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            raise ValueError(f"{name}: {module.__name__} has no {path!r}; it has {', '.join(sorted(names)[:8])}")
        found = getattr(found, part)
    return found


def _given(text: str, module) -> tuple:
    """The arguments of --args: shapes, or what a function returns."""
    words = re.findall(r"\w+\[[^\]]*\]|\S+", text)
    if words and all(_SHAPE.fullmatch(word) for word in words):
        return tuple(_value(*_parsed(word)) for word in words)
    if len(words) == 1 and re.fullmatch(r"[\w./]*:?[\w.]+", words[0]):
        holder, _, name = words[0].rpartition(":")
        holder = _module(holder) if holder else module
        if holder is not None and callable(getattr(holder, name, None)):
            values = getattr(holder, name)()
            return tuple(values) if isinstance(values, tuple | list) else (values,)
    raise ValueError(f"--args {text!r} is neither shapes ('f32[32,8] s32[32]') nor a function that returns them")


def _parsed(word: str) -> tuple[tf.DType, list[int]]:
    found = _SHAPE.fullmatch(word)
    if found is None:
        raise ValueError(f"--args: {word!r} is no shape, such as f32[32,224,224,3]")
    name = _DTYPES.get(found["dtype"], found["dtype"])
    try:
        dtype = tf.as_dtype(name)
    except TypeError:
        raise ValueError(f"--args: {found['dtype']!r} in {word!r} is no dtype: {', '.join(_DTYPES)}") from None
    return dtype, [int(size) for size in found["sizes"].split(",") if size.strip()]


def _made_up(specs: Sequence, name: str, batch: int) -> tuple:
    values = []
    for spec in specs:
        if not isinstance(spec, tf.TensorSpec) or spec.shape.rank is None or None in spec.shape[1:]:
            raise ValueError(f"{name}: the sizes of its arguments are open ({spec}): {_HOW}")
        values.append(_value(spec.dtype, [batch if size is None else size for size in spec.shape]))
    return tuple(values)


def _without_parameters(function, name: str) -> tuple:
    parameters = inspect.signature(function.python_function).parameters.values()
    more = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [item.name for item in parameters if item.default is item.empty and item.kind not in more]
    if needed:
        raise ValueError(f"{name} takes {', '.join(needed)}: {_HOW}")
    return ()


def _value(dtype: tf.DType, sizes: list[int]) -> tf.Tensor:
    """Normal numbers from a seed; of integers and truth values zeros, which are places in every table."""
    if dtype == tf.string:
        raise ValueError("a function of texts cannot be compiled by XLA: name one that takes numbers")
    if not dtype.is_floating:
        return tf.zeros(sizes, dtype)
    return tf.cast(tf.random.stateless_normal(sizes, seed=(0, math.prod(sizes) % 2**31)), dtype)


def _traced(function, values: tuple, name: str):
    """The function, once it has been traced with the values."""
    try:
        function.get_concrete_function(*values)
    except Exception as error:  # whatever the function's own code raises
        kinds = ", ".join(f"{value.dtype.name}{value.shape}" for value in values if tf.is_tensor(value))
        raise ValueError(f"{name} cannot be traced with ({kinds}): {_short(error)}; {_HOW}") from None
    return function


def _short(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = next((line for line in lines if re.match(r"\w*Error:", line)), lines[0] if lines else "")
    return f"{type(error).__name__}: {last}"[:300]
