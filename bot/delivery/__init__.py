"""From the inbox to the outbox: nothing lost, nothing answered twice. docs/delivery.md is the protocol."""
