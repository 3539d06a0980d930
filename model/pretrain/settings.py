"""What a pretraining run is told: plain values, checked where they are made. Importable without torch."""

from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, get_args

from model.errors import PretrainError

Precision = Literal["auto", "bf16", "fp32"]
Switch = Literal["auto", "on", "off"]
OptimiserName = Literal["adamw", "muon"]


@dataclass(frozen=True, slots=True)
class Size:
    """A Llama shape with tied embeddings, and the step size and batch that suit it."""

    hidden: int
    layers: int
    heads: int
    key_value_heads: int
    intermediate: int
    vocabulary: int
    learning_rate: float
    batch_tokens: int


SIZES: dict[str, Size] = {
    "2m": Size(128, 8, 2, 2, 352, 4096, 3e-3, 8_192),
    "8m": Size(256, 7, 4, 2, 704, 8192, 2e-3, 8_192),
    "25m": Size(384, 12, 6, 2, 1056, 16384, 1e-3, 32_768),
    "60m": Size(576, 14, 9, 3, 1536, 16384, 8e-4, 65_536),
    "100m": Size(768, 12, 12, 4, 2048, 32768, 6e-4, 131_072),
}
"""The names tell the parameters in millions, at the full vocabulary."""

SMALLEST_VOCABULARY = 259
"""256 bytes and the three control tokens."""


@dataclass(frozen=True, slots=True)
class PretrainSettings:
    """Everything that `pretrain` is told. None stands for the value that suits the size or the machine."""

    corpus: Path
    out: Path
    start_from: Path | None = None
    """The folder of an earlier run, whose tokenizer and weights this one goes on with; None starts from nothing."""
    size: str = "8m"
    shape: Size | None = None
    """A shape of one's own, in place of the one that `size` names."""
    context: int = 1024
    """Tokens of the longest example, and of the finished model's context."""
    vocabulary: int | None = None
    """A number is kept to; None takes the size's, or fewer where the corpus supports no more."""
    epochs: float = 2.0
    """Stage 1, language modelling on everything: passes over the corpus."""
    sft_epochs: float = 2.0
    """Stage 2, replies only: passes over the dialogues. 0 leaves it out."""
    minutes: float | None = None
    """Training time after which the run ends, with the passes that it had time for; the learning rate falls in time."""
    batch_tokens: int | None = None
    """Tokens of one optimiser step, over all devices."""
    micro_tokens: int = 8_192
    """Tokens of one forward pass on one device: less takes less memory and changes nothing else."""
    optimiser: OptimiserName = "adamw"
    learning_rate: float | None = None
    sft_learning_rate_factor: float = 0.3
    warmup: float = 0.03
    """The share of a stage's steps in which the learning rate rises."""
    weight_decay: float = 0.1
    clip: float = 1.0
    held_out: float = 0.01
    near_duplicates: float | None = None
    """Drop documents whose 5-character shingles agree this much (Jaccard, 0 to 1); None keeps them."""
    check_every: int | None = None
    """Steps between two checks: held-out loss, checkpoint. None: about 20 times a stage."""
    patience: int = 5
    """Checks without a better held-out loss after which a stage ends."""
    seed: int = 0
    temperature: float | None = None
    """How the finished model is best sampled, for its `generation_config.json`; None leaves it to whoever asks it."""
    top_p: float | None = None
    repetition_penalty: float | None = None
    precision: Precision = "auto"
    compile: Switch = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.shape is None and self.size not in SIZES:
            raise PretrainError(f"There is no size {self.size!r}; there are {', '.join(SIZES)}.")
        for name, choices in (
            ("precision", get_args(Precision)),
            ("compile", get_args(Switch)),
            ("optimiser", get_args(OptimiserName)),
        ):
            if getattr(self, name) not in choices:
                listed = f"{', '.join(choices[:-1])} or {choices[-1]}"
                raise PretrainError(f"{name} is {listed}, and not {getattr(self, name)!r}.")
        for name, (lowest, highest) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not lowest <= value <= highest:
                raise PretrainError(f"{name} must lie between {lowest} and {highest}, and is {value}.")
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            if self.start_from is not None and not (self.start_from / name).is_file():
                raise PretrainError(f"{self.start_from} is no folder that a run has left: it has no {name}.")
        if self.context % 64:
            raise PretrainError(f"context must be a multiple of 64, and is {self.context}.")

    @property
    def sampling_advice(self) -> dict[str, float]:
        """What the finished model's generation config says of sampling."""
        values = {name: getattr(self, name) for name in ("temperature", "top_p", "repetition_penalty")}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def architecture(self) -> Size:
        return self.shape or SIZES[self.size]

    @property
    def step_tokens(self) -> int:
        return self.batch_tokens or self.architecture.batch_tokens

    @property
    def forward_tokens(self) -> int:
        return min(self.micro_tokens, self.step_tokens)

    def told(self) -> dict[str, Any]:
        """The settings that decide the result, as JSON: a run is only continued under the same ones."""
        values = {name: value for name, value in asdict(self).items() if name not in _WITHOUT_EFFECT}
        return {**values, "shape": asdict(self.architecture), "start_from": self._start_hash()}

    def _start_hash(self) -> str | None:
        if self.start_from is None:
            return None
        return sha256((self.start_from / "model.safetensors").read_bytes()).hexdigest()


_WITHOUT_EFFECT = ("corpus", "out", "compile", "threads")

_RANGES: dict[str, tuple[float, float]] = {
    "context": (64, 1_048_576),
    "vocabulary": (SMALLEST_VOCABULARY, 1_000_000),
    "epochs": (0.0, 10_000.0),
    "sft_epochs": (0.0, 10_000.0),
    "minutes": (0.001, 1_000_000.0),
    "batch_tokens": (64, 100_000_000),
    "micro_tokens": (64, 10_000_000),
    "learning_rate": (1e-7, 1.0),
    "sft_learning_rate_factor": (1e-4, 10.0),
    "warmup": (0.0, 1.0),
    "weight_decay": (0.0, 1.0),
    "clip": (1e-3, 1e6),
    "held_out": (1e-6, 0.5),
    "near_duplicates": (0.1, 1.0),
    "check_every": (1, 1_000_000_000),
    "patience": (1, 1_000_000),
    "seed": (0, 2**32 - 1),
    "temperature": (0.01, 2.0),
    "top_p": (0.01, 1.0),
    "repetition_penalty": (0.1, 10.0),
    "threads": (1, 4096),
}


@dataclass(frozen=True, slots=True)
class StageReport:
    """How one stage went. Losses are nats per learnt token."""

    name: str
    steps: int
    planned_steps: int
    best_step: int
    train_loss: float
    held_out_loss: float
    learnt_tokens: int


@dataclass(frozen=True, slots=True)
class PretrainReport:
    """What a run gave. `tokens_per_second` counts real tokens, no padding, checks and checkpoints left out."""

    out: str
    parameters: int
    vocabulary: int
    train_documents: int
    held_out_documents: int
    tokens: int
    """Real tokens seen, over all stages and epochs."""
    stages: tuple[StageReport, ...]
    seconds: float
    tokens_per_second: float
    model_flops_per_second: float
    model_flops_utilisation: float | None
    """Against the device's dense bf16 peak; None where that is not known."""
    peak_memory_bytes: int
    device: str
