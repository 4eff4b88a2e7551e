"""Site numbers: under one step's key they tell the random layers of a model apart."""

from tfcore.module import Module


def check_sites(model: Module) -> None:
    """Raise ValueError, naming both, where two random layers of a model have the same `site`: they would drop alike."""
    seen: dict[int, str] = {}
    for path, module in model.named_modules().items():
        site = getattr(module, "site", None)
        if site is None:
            continue
        if site in seen:
            raise ValueError(
                f"{type(model).__name__}: {seen[site]} and {path} have site {site}, both: the same random "
                "numbers; give each a site of its own"
            )
        seen[site] = path
