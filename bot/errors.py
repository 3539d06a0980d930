"""Every error of `bot`, as a tree. Each message is a sentence that a person can act on.

BotError
├── SettingsError     a setting is missing, unknown or out of range
├── PlatformRefused   a platform turned the bot away (token, intent, scope); starting again would not help
└── DeliveryFailed    one message could not be shown (permission, deleted channel, lost connection)
"""


class BotError(Exception):
    """Base of all errors of this package."""


class SettingsError(BotError):
    pass


class PlatformRefused(BotError):
    pass


class DeliveryFailed(BotError):
    pass
