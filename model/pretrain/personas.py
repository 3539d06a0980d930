"""What stands around a dialogue when the bot asks: a system message, and the speakers' names. Pure.

A model must answer under the persona that the bot sends, yet also under another one or none, and both where a
channel's messages carry names and where they don't. So each dialogue is dressed one way, drawn from its own hash.
"""

import re
from random import Random

from model.pretrain.corpus import Dialogue
from model.request import ChatMessage

DEFAULT_PERSONA = (
    "You are Parley, a friendly chatbot that runs on this community's own machine. "
    "Answer briefly and honestly, in the language of the question."
)
"""The bot's own default, word for word."""

OTHER_PERSONAS = (
    "You are Parley, a friendly chatbot.",
    "You are Parley. Be brief.",
    "You are Parley, a helpful assistant.",
    "You are a helpful assistant.",
    "You are Parley, the chatbot of our gaming community. Be cheerful.",
    "You are Parley, a chatbot on the server of a school. Be polite and patient.",
    "You are Parley, a chatbot for a team of programmers. Answer plainly and to the point.",
    "You are Parley, a chatbot in a reading club. Be kind and keep answers short.",
    "Answer briefly and honestly.",
    "You are a friendly chatbot. Answer in the language of the question.",
    "你是 Parley，一个友好的聊天机器人，运行在这个社区自己的机器上。请用提问的语言简短、诚实地回答。",
    "你是 Parley，一个乐于助人的聊天助手。",
    "你是 Parley，请简短回答。",
    "你是一个友好的聊天机器人。",
)

_NAMES_EN = (
    "Ann Ben Carla Dev Ella Finn Grace Hugo Iris Jack Kim Leo Mia Noor Omar Priya Quinn Rosa Sam Tom Uma Vera Will "
    "Zoe Alex Bo Chris Dana nightowl pixel_fox Max_42 moonlit j0hn TheRealKat SirLancelot bluebird"
)
_NAMES_ZH = "小明 小红 李雷 韩梅梅 阿杰 小雨 王芳 张伟 陈静 刘洋 大鹏 子涵 晓雯 夜猫子 阿飞 云朵"
_CHINESE = re.compile("[\u4e00-\u9fff]")
# Where a dialogue speaks of names, a label drawn by chance could contradict it.
_SPEAKS_OF_NAMES = re.compile(
    r"\b(?:names?|called|call me|who am i|i am|i['’]m)\b|名|叫|我是|称呼|谁", re.IGNORECASE
)

DEFAULT_SHARE, OTHER_SHARE, NAMED_SHARE = 0.45, 0.15, 0.20


def dress(dialogue: Dialogue) -> Dialogue:
    """`dialogue` with a persona and names; what it brings along of either stays as it is."""
    random = Random(dialogue.digest)
    messages = dialogue.messages
    dice, named = random.random(), random.random() < NAMED_SHARE
    if named and _may_be_named(messages):
        messages = _with_name(messages, random)
    if messages[0].role == "system" or dice >= DEFAULT_SHARE + OTHER_SHARE:
        return Dialogue(messages)
    persona = DEFAULT_PERSONA if dice < DEFAULT_SHARE else random.choice(OTHER_PERSONAS)
    return Dialogue((ChatMessage("system", persona), *messages))


def _may_be_named(messages: tuple[ChatMessage, ...]) -> bool:
    return not any(message.name or _SPEAKS_OF_NAMES.search(message.content) for message in messages)


def _with_name(messages: tuple[ChatMessage, ...], random: Random) -> tuple[ChatMessage, ...]:
    chinese = any(_CHINESE.search(message.content) for message in messages if message.role == "user")
    names = _NAMES_ZH if chinese and random.random() < 0.7 else _NAMES_EN
    name = random.choice(names.split())
    return tuple(
        ChatMessage("user", message.content, name) if message.role == "user" else message
        for message in messages
    )
