"""Every setting of Parley, from the environment and the file `.env`. Secrets never print."""

import difflib
import os
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from bot.errors import SettingsError

DEFAULT_PERSONA = (
    "You are Parley, a friendly chatbot that runs on this community's own machine. "
    "Answer briefly and honestly, in the language of the question."
)


class Settings(BaseSettings):
    """Read once, in `bot.cli`, and passed on. `.env.example` documents each one; a test holds the two equal."""

    model_config = SettingsConfigDict(
        env_prefix="PARLEY_",
        env_file=".env",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        populate_by_name=True,
    )

    discord_token: SecretStr | None = Field(None, validation_alias="DISCORD_TOKEN")
    discord_message_content: bool = False
    discord_commands_guild: int | None = None
    discord_api_url: str = Field("https://discord.com/api/v10", validation_alias="DISCORD_API_URL")
    discord_gateway_url: str = Field("wss://gateway.discord.gg/", validation_alias="DISCORD_GATEWAY_URL")
    discord_cdn_url: str = Field("https://cdn.discordapp.com", validation_alias="DISCORD_CDN_URL")

    slack_bot_token: SecretStr | None = Field(None, validation_alias="SLACK_BOT_TOKEN")
    slack_app_token: SecretStr | None = Field(None, validation_alias="SLACK_APP_TOKEN")
    slack_api_url: str = Field("https://slack.com/api/", validation_alias="SLACK_API_URL")

    model: str = "starter"
    model_revision: str | None = None
    hf_token: SecretStr | None = Field(None, validation_alias="HF_TOKEN")
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    context_tokens: int = Field(4096, ge=64)
    parallel_replies: int = Field(8, ge=1)
    queue_length: int = Field(64, ge=0)
    reply_seconds: float = Field(300, gt=0)

    persona: str = DEFAULT_PERSONA
    temperature: float | None = Field(None, ge=0, le=5)
    top_k: int | None = Field(None, ge=0)
    top_p: float | None = Field(None, gt=0, le=1)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, ge=0.1, le=5)
    max_tokens: int = Field(512, ge=1)
    seed: int | None = Field(None, ge=0)
    thinking: Literal["hidden", "folded", "shown"] = "hidden"
    summaries: Literal["auto", "on", "off"] = "auto"

    database_url: SecretStr = SecretStr("sqlite:///parley.db")
    answer_window_seconds: float = Field(1800, gt=0)
    scan_seconds: float = Field(600, gt=0)
    burst_seconds: float = Field(2, ge=0, le=8)
    lease_seconds: float = Field(15, ge=1)
    edit_seconds: float = Field(1.2, ge=0)
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def secrets(self) -> tuple[str, ...]:
        """The values that must never appear in a log or on a screen."""
        tokens = (self.discord_token, self.slack_bot_token, self.slack_app_token, self.hf_token)
        values = [token.get_secret_value() for token in tokens if token is not None]
        return (*values, urlsplit(self.database_url.get_secret_value()).password or "")


def environment_name(field: str) -> str:
    """The name under which a setting stands in the environment and in `.env`."""
    alias = Settings.model_fields[field].validation_alias
    return str(alias) if alias else f"PARLEY_{field.upper()}"


def load_settings(env_file: Path | None = Path(".env")) -> Settings:
    """Read the settings, or raise one `SettingsError` that lists every fault by name."""
    faults = [_unknown(name) for name in os.environ if name.startswith("PARLEY_") and name not in _KNOWN]
    try:
        settings = Settings(_env_file=env_file)  # type: ignore[call-arg]  # an argument of pydantic-settings
    except ValidationError as error:
        faults += [_fault(fault["type"], str(fault["loc"][0]), fault["msg"]) for fault in error.errors()]
    if faults:
        raise SettingsError("These settings need a look:\n" + "\n".join(f"  - {fault}" for fault in faults))
    return settings


_KNOWN = {environment_name(field) for field in Settings.model_fields} | {"PARLEY_TEST_POSTGRES"}


def _fault(kind: str, location: str, message: str) -> str:
    name = environment_name(location) if location in Settings.model_fields else location.upper()
    return _unknown(name) if kind == "extra_forbidden" else f"{name}: {message}"


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, _KNOWN, n=1, cutoff=0.8)
    return f"{name} is no setting of Parley" + (f"; did you mean {near[0]}?" if near else ".")
