"""Every command of Parley, once: its name, its words in two languages, its options, and who may use it.

Help, Discord's slash commands, Slack's manifest and the parser of typed commands are made from this table.
"""

from dataclasses import dataclass
from typing import Literal

from bot.permissions import Need

Completion = Literal["settings", "sampling", "presets", "bundles"]
"""What a platform may offer while somebody types the option."""


@dataclass(frozen=True, slots=True)
class Option:
    """What a command is told. A typed command gives them in order; the last text takes the rest of the line."""

    name: str
    about: str
    about_zh: str
    required: bool = True
    choices: tuple[str, ...] = ()
    completion: Completion | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """`name` is one word, or a group and a word. `asks`: its answer comes from the model."""

    name: str
    about: str
    about_zh: str
    need: Need = "command"
    options: tuple[Option, ...] = ()
    asks: bool = False

    @property
    def usage(self) -> str:
        """The name with its options, those that may be left out in brackets."""
        shown = [option.name if option.required else f"[{option.name}]" for option in self.options]
        return " ".join([self.name, *shown])


FOR_WHOM = ("me", "channel", "workspace")
WHERE = ("workspace", "category", "channel", "thread")

_SETTING = Option("setting", "Its name", "设置的名称", completion="settings")
_SAMPLING = Option("setting", "Such as temperature", "例如 temperature", completion="sampling")
_VALUE = Option("value", "Its new value", "新的值")
_FOR = Option("whom", "For whom it holds", "对谁有效", required=False, choices=FOR_WHOM)
_WHERE = Option("where", "Where it holds", "在哪里有效", required=False, choices=WHERE)
_BUNDLE = Option("name", "The bundle's name", "组合的名称", completion="bundles")
_NEED = Option("need", "What it is about", "哪种权限", choices=("chat", "command", "moderate", "administer"))
_SUBJECT = Option(
    "subject", "everyone, or a person, role or channel by mention or id", "everyone，或用户、身份组、频道"
)

COMMANDS: tuple[Command, ...] = (
    Command(
        "chat",
        "Ask me something",
        "问我点什么",
        need="chat",
        options=(Option("message", "What you want to say", "你想说的话"),),
        asks=True,
    ),
    Command("help", "Show what I can do", "看看我会什么"),
    Command("reset", "Forget what was said here and start afresh", "忘掉这里说过的话，重新开始"),
    Command("undo", "Take the last reset back", "撤销上一次重置"),
    Command("stop", "Stop the answers that are being written here", "停止这里正在写的回答"),
    Command(
        "context", "Show exactly what the model saw for its last answer here", "显示模型上次回答时看到的内容"
    ),
    Command("why", "Say why I gave my last answer here", "说明我上次为什么回答"),
    Command(
        "sampling show", "Show how words are drawn for you here, and why so", "显示这里的采样设置及其来源"
    ),
    Command("sampling set", "Change how words are drawn", "修改采样设置", options=(_SAMPLING, _VALUE, _FOR)),
    Command(
        "sampling preset",
        "Take precise, balanced, creative, or a saved preset",
        "使用 precise、balanced、creative 或已保存的预设",
        options=(Option("name", "The preset", "预设的名称", completion="presets"), _FOR),
    ),
    Command(
        "sampling save",
        "Save your sampling settings here as a preset of yours",
        "把你在这里的采样设置存为预设",
        options=(Option("name", "How to call it", "预设的名称"),),
    ),
    Command("sampling reset", "Take sampling settings back", "撤销采样设置", options=(_FOR,)),
    Command("settings show", "Show every setting here and where it comes from", "显示这里的每个设置及其来源"),
    Command(
        "settings set",
        "Change a setting for a channel, thread, category or the workspace",
        "修改频道、子区、类别或整个工作区的设置",
        need="administer",
        options=(_SETTING, _VALUE, _WHERE),
    ),
    Command(
        "settings clear",
        "Take a setting back, so that the wider one holds",
        "撤销一个设置，沿用上一级的值",
        need="administer",
        options=(_SETTING, _WHERE),
    ),
    Command("bundle list", "List the bundles of settings", "列出设置组合"),
    Command("bundle show", "Show what a bundle holds", "显示一个组合的内容", options=(_BUNDLE,)),
    Command(
        "bundle set",
        "Change a setting of a bundle; a new name makes a new bundle",
        "修改组合里的设置；新名称会新建组合",
        need="administer",
        options=(_BUNDLE, _SETTING, _VALUE),
    ),
    Command("bundle delete", "Delete a bundle", "删除一个组合", need="administer", options=(_BUNDLE,)),
    Command(
        "bundle bind",
        "Let a bundle hold for a channel, thread, category or the workspace",
        "让组合在频道、子区、类别或工作区生效",
        need="administer",
        options=(_BUNDLE, _WHERE),
    ),
    Command(
        "bundle unbind", "Let no bundle hold there", "取消那里的组合", need="administer", options=(_WHERE,)
    ),
    Command("access show", "Show who may do what", "显示谁可以做什么"),
    Command("access allow", "Allow something", "允许某种权限", need="administer", options=(_NEED, _SUBJECT)),
    Command("access deny", "Deny something", "禁止某种权限", need="administer", options=(_NEED, _SUBJECT)),
    Command("access clear", "Take a rule back", "撤销一条规则", need="administer", options=(_NEED, _SUBJECT)),
)

BY_NAME = {command.name: command for command in COMMANDS}


@dataclass(frozen=True, slots=True)
class Group:
    """The first word of commands with two. `for_managers`: a platform may hide it from all others."""

    name: str
    about: str
    about_zh: str
    for_managers: bool = False


GROUPS = {
    group.name: group
    for group in (
        Group("sampling", "How words are drawn", "采样设置"),
        Group("settings", "Settings of this place", "这里的设置"),
        Group("bundle", "Bundles of settings", "设置组合", for_managers=True),
        Group("access", "Who may do what", "谁可以做什么", for_managers=True),
    )
}

CHINESE = {
    "chat": "聊天",
    "help": "帮助",
    "reset": "重置",
    "undo": "撤销",
    "stop": "停止",
    "context": "上下文",
    "why": "为什么",
    "sampling": "采样",
    "settings": "设置",
    "bundle": "组合",
    "access": "权限",
    "show": "查看",
    "set": "设定",
    "preset": "预设",
    "save": "保存",
    "clear": "清除",
    "list": "列表",
    "delete": "删除",
    "bind": "绑定",
    "unbind": "解绑",
    "allow": "允许",
    "deny": "禁止",
}
"""The words of the commands' names, where a platform shows them in the reader's language."""
