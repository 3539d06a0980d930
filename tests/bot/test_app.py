"""The wiring: what a person sets comes first, then what the model recommends, then the defaults."""

from bot.app import build_sampling
from bot.settings import Settings
from model.request import SamplingParams


def settings(**chosen: float) -> Settings:
    return Settings(_env_file=None, **chosen)  # type: ignore[call-arg, arg-type]


def test_without_settings_the_model_decides_how_it_is_sampled() -> None:
    sampling = build_sampling(settings(), {"temperature": 0.6, "top_k": 20})
    assert sampling == SamplingParams(temperature=0.6, top_k=20)


def test_what_is_set_counts_more_than_what_the_model_recommends() -> None:
    sampling = build_sampling(settings(temperature=0, top_p=0.5), {"temperature": 0.6, "top_k": 20})
    assert sampling == SamplingParams(temperature=0, top_p=0.5, top_k=20)


def test_a_model_that_recommends_nothing_gets_the_defaults() -> None:
    assert build_sampling(settings(), {}) == SamplingParams()
