"""What the README and the architecture page say of the tree is true."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TREE = re.search(r"## The house\n\n```\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
INTERNAL = {"__init__.py", "__main__.py", "errors.py"}


def named_in_readme() -> set[str]:
    assert TREE is not None
    folder, named = "", set()
    for line in TREE.group(1).splitlines():
        indent, name = re.match(r"( *)(\S+)", line).groups()  # type: ignore[union-attr]
        if not indent:
            folder = name
        named.add(folder if not indent else folder + name)
    return named


def test_everything_that_the_readme_names_exists() -> None:
    assert [name for name in named_in_readme() if not (ROOT / name).exists()] == []


def test_every_module_of_the_bot_and_the_model_is_named_in_the_readme() -> None:
    modules = {
        f"{package}/{path.name}" + ("/" if path.is_dir() else "")
        for package in ("bot", "model")
        for path in (ROOT / package).iterdir()
        if path.name not in INTERNAL and not path.name.startswith("__")
    }
    assert modules - named_in_readme() == set()


def test_every_link_between_the_documents_leads_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("model/**/*.md")]:
        for target in re.findall(r"\]\((?!http|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
