"""`python -m model.starter.corpus OUT.jsonl [--count N] [--seed N]`: writes the dialogues, one a line."""

import argparse
import json
from pathlib import Path

from model.starter.corpus import COUNT, Dialogue, dialogues


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m model.starter.corpus", description="Write the starter's corpus."
    )
    parser.add_argument("out", type=Path, help="the JSON lines file to write")
    parser.add_argument("--count", type=int, default=COUNT, help=f"how many dialogues (default {COUNT})")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other dialogues (default 0)")
    arguments = parser.parse_args()
    characters = 0
    with arguments.out.open("w", encoding="utf-8") as file:
        for dialogue in dialogues(arguments.seed, arguments.count):
            line = json.dumps(to_json(dialogue), ensure_ascii=False)
            characters += len(line)
            file.write(line + "\n")
    print(f"{arguments.count} dialogues, {characters / 1e6:.1f} million characters, in {arguments.out}")


def to_json(dialogue: Dialogue) -> dict[str, object]:
    """The dialogue as other tools read it; `name` only where somebody has one."""
    messages = [
        {"role": message.role, "content": message.content, **({"name": message.name} if message.name else {})}
        for message in dialogue.messages
    ]
    return {"messages": messages, "topic": dialogue.topic, "language": dialogue.language}


if __name__ == "__main__":
    main()
