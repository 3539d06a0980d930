"""Every table, one class each. Rows hold no logic, and never leave `storage`."""

from storage.tables.base import Base, Platform
from storage.tables.choices import AccessRule, Bundle, Choice, Need, Scope, Subject
from storage.tables.delivery import (
    Action,
    Decision,
    Identify,
    Inbox,
    InboxState,
    Lease,
    Outbox,
    PartOp,
    PartState,
    Scan,
    Via,
)
from storage.tables.dialogue import Feedback, FinishReason, Message, MessagePart, Rating, Role, Turn
from storage.tables.moderation import Flag, FlagSource, Review, ReviewDecision
from storage.tables.people import Account, Consent, ConsentDecision, Purpose
from storage.tables.places import Channel, Conversation, Workspace

__all__ = [
    "AccessRule",
    "Account",
    "Action",
    "Base",
    "Bundle",
    "Channel",
    "Choice",
    "Consent",
    "ConsentDecision",
    "Conversation",
    "Decision",
    "Feedback",
    "FinishReason",
    "Flag",
    "FlagSource",
    "Identify",
    "Inbox",
    "InboxState",
    "Lease",
    "Message",
    "MessagePart",
    "Need",
    "Outbox",
    "PartOp",
    "PartState",
    "Platform",
    "Purpose",
    "Rating",
    "Review",
    "ReviewDecision",
    "Role",
    "Scan",
    "Scope",
    "Subject",
    "Turn",
    "Via",
    "Workspace",
]
