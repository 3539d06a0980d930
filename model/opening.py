"""From a name to an engine that serves it: the lean way where the model allows it, else transformers'."""

from model.checkpoint import open_checkpoint
from model.engine.local import LocalEngine
from model.engine.served import ServedModel
from model.lean.model import find_lean


def open_model(
    source: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    token: str | None = None,
    revision: str | None = None,
) -> ServedModel:
    """ "starter", a folder, or a hub id, to be served. Takes up to minutes; call it off the event loop.

    Raises `ModelNotFound` and `ModelUnusable`, whose messages name what is wrong.
    """
    checkpoint = open_checkpoint(source, token=token, revision=revision)
    lean = find_lean(checkpoint, device=device, dtype=dtype)
    if lean is not None:
        return lean
    from model.loading import load_checkpoint  # torch and transformers take seconds to import

    return load_checkpoint(checkpoint, device=device, dtype=dtype)


def open_engine(
    source: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    token: str | None = None,
    revision: str | None = None,
    context_tokens: int | None = None,
    max_running: int = 8,
    max_waiting: int = 64,
) -> LocalEngine:
    """As `open_model` and `LocalEngine`."""
    return LocalEngine(
        open_model(source, device=device, dtype=dtype, token=token, revision=revision),
        context_tokens=context_tokens,
        max_running=max_running,
        max_waiting=max_waiting,
    )
