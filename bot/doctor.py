"""`parley doctor`: what this machine has, what fits, and whether what is set up would work. Changes nothing."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bot.settings import Settings, environment_name
from model.checkpoint import is_hub_id, open_checkpoint
from model.errors import ModelError
from model.fitting import choose_device, choose_dtype
from model.hardware import Device, Hardware, inspect_hardware, largest_model, list_fits
from storage.address import parse_address
from storage.database import Database
from storage.errors import DatabaseLocked, SchemaTooOld, StorageError
from storage.inbox import count_received

RECOMMENDED = {
    "Qwen/Qwen3-0.6B": 0.75e9,
    "Qwen/Qwen3-1.7B": 2.0e9,
    "HuggingFaceTB/SmolLM3-3B": 3.1e9,
    "Qwen/Qwen3-4B-Instruct-2507": 4.0e9,
    "Qwen/Qwen3-8B": 8.2e9,
    "Qwen/Qwen3-14B": 14.8e9,
    "Qwen/Qwen3-30B-A3B-Instruct-2507": 30.5e9,
}
"""Models that the README names, with their parameters; all under Apache 2.0."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `ok` None is neither good nor bad."""

    subject: str
    text: str
    ok: bool | None = True


async def diagnose(settings: Settings, console: Console) -> bool:
    """Print the report; False when Parley would not start with these settings."""
    hardware = inspect_hardware()
    findings = [
        *(_device_finding(device) for device in hardware.devices),
        _fit_finding(hardware.best),
        _model_finding(settings),
        await _database_finding(settings),
        *_platform_findings(settings),
    ]
    console.print(_report(findings))
    console.print(_recommendations(hardware))
    return all(finding.ok is not False for finding in findings)


def _device_finding(device: Device) -> Finding:
    memory = "memory unknown"
    if device.memory_total is not None and device.memory_free is not None:
        memory = f"{_gigabytes(device.memory_total)} of memory, {_gigabytes(device.memory_free)} free"
    native = "native bfloat16" if device.native_bfloat16 else "no native bfloat16"
    return Finding(device.name, f"{device.description}; {memory}; {native}", None)


def _fit_finding(device: Device) -> Finding:
    fits = [f"{fit.parameters / 1e9:.1f}B parameters in {fit.dtype}" for fit in list_fits(device)]
    return Finding("fits", f"on {device.name}: up to {' or '.join(fits) or 'an unknown size'}", None)


def _model_finding(settings: Settings) -> Finding:
    subject = environment_name("model")
    try:
        device = choose_device(settings.device)
        if is_hub_id(settings.model) and not Path(settings.model).exists():
            return Finding(
                subject, f"{settings.model} is no folder here; the hub is asked at the start", None
            )
        checkpoint = open_checkpoint(settings.model)
        dtype = choose_dtype(settings.dtype, device, checkpoint)
    except ModelError as error:
        return Finding(subject, str(error), False)
    size = f"{checkpoint.name}, {checkpoint.parameters / 1e6:,.0f}M parameters, in {dtype} on {device.name}"
    if device.memory_free is not None and checkpoint.parameters > largest_model(device.memory_free, dtype):
        return Finding(
            subject, f"{size}: too large for {_gigabytes(device.memory_free)} of free memory", False
        )
    return Finding(subject, size)


async def _database_finding(settings: Settings) -> Finding:
    subject = environment_name("database_url")
    url = settings.database_url.get_secret_value()
    try:
        path = parse_address(url).path
        if path is not None and not path.exists():
            return Finding(subject, f"{path} will be made at the first start")
        database = await Database.open(url)
        counts = await database.read(count_received)
        await database.close()
    except (SchemaTooOld, DatabaseLocked) as error:
        return Finding(subject, str(error), None)
    except StorageError as error:
        return Finding(subject, str(error), False)
    received = ", ".join(f"{count} {decision}" for decision, count in sorted(counts.items()))
    return Finding(subject, f"{database} is up to date; messages received: {received or 'none'}")


def _platform_findings(settings: Settings) -> list[Finding]:
    discord = settings.discord_token is not None
    slack = settings.slack_bot_token is not None, settings.slack_app_token is not None
    return [
        Finding(
            "Discord", "has a token" if discord else "DISCORD_TOKEN is not set: not served", discord or None
        ),
        Finding(
            "Slack",
            {2: "has both tokens", 1: "has one of its two tokens: not served"}.get(
                sum(slack), "SLACK_BOT_TOKEN and SLACK_APP_TOKEN are not set: not served"
            ),
            {2: True, 1: False}.get(sum(slack)),
        ),
    ]


def _report(findings: list[Finding]) -> Table:
    marks = {True: "[green]ok[/]", False: "[red]no[/]", None: "  "}
    table = Table(box=None, show_header=False, padding=(0, 1))
    for finding in findings:
        table.add_row(marks[finding.ok], finding.subject, finding.text)
    return table


def _recommendations(hardware: Hardware) -> Table:
    table = Table("model", "weights in bfloat16", "here", title="\nModels worth a try", title_justify="left")
    for name, parameters in RECOMMENDED.items():
        table.add_row(name, f"{2 * parameters / 1e9:.1f} GB", _verdict(hardware.best, parameters))
    return table


def _verdict(device: Device, parameters: float) -> str:
    if device.memory_free is None:
        return "?"
    if parameters > largest_model(device.memory_free, "bfloat16"):
        return "[red]too large[/]"
    slow = device.kind == "cpu" and parameters > SLOW_ON_A_PROCESSOR
    return "[yellow]fits, slowly[/]" if slow else "[green]fits[/]"


SLOW_ON_A_PROCESSOR = 1e9
"""Parameters from which a processor answers slower than most people read."""


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
