"""What nobody chose: what the installation sets comes first, then what the model recommends, then the defaults."""

from dataclasses import replace

from bot.choices.book import defaults, sampling_of
from bot.settings import Settings
from model.request import SamplingParams
from tests.fakes.engine import HEALTH


def sampling(recommended: dict[str, float], **settings: float) -> SamplingParams:
    chosen = Settings(_env_file=None, **settings)  # type: ignore[call-arg, arg-type]
    return sampling_of(defaults(chosen, replace(HEALTH, sampling_defaults=tuple(recommended.items()))))


def test_without_settings_the_model_decides_how_it_is_sampled() -> None:
    assert sampling({"temperature": 0.6, "top_k": 20}) == SamplingParams(temperature=0.6, top_k=20)


def test_what_is_set_counts_more_than_what_the_model_recommends() -> None:
    chosen = sampling({"temperature": 0.6, "top_k": 20}, temperature=0, top_p=0.5)
    assert chosen == SamplingParams(temperature=0, top_p=0.5, top_k=20)


def test_a_model_that_recommends_nothing_gets_the_defaults() -> None:
    assert sampling({}) == SamplingParams()
