"""Every error of `model`, as a tree. Each message is a sentence that a person can act on.

ModelError
├── ModelNotFound        the folder or hub id is not there, or cannot be fetched
├── ModelUnusable        it is there, but cannot be served (format, tensors, architecture, memory)
├── PretrainError        a corpus, run folder or setting that cannot be trained from
└── EngineError          the only errors that cross the seam between bot and engine
    ├── Overloaded       the queue is full; `retry_after` seconds is an honest guess
    ├── DeadlineExceeded the request's deadline passed before it ended
    ├── EngineDied       the engine stopped; the request may be repeated elsewhere
    └── BadRequest       the request cannot be served as it is; its message names the value
"""


class ModelError(Exception):
    """Base of all errors of this package."""


class ModelNotFound(ModelError):
    pass


class ModelUnusable(ModelError):
    pass


class PretrainError(ModelError):
    pass


class EngineError(ModelError):
    """Base of the errors that `Engine` raises."""


class Overloaded(EngineError):
    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds after which a new try has a fair chance."""


class DeadlineExceeded(EngineError):
    pass


class EngineDied(EngineError):
    pass


class BadRequest(EngineError):
    pass
