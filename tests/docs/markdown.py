"""Reads the fenced blocks of a Markdown page."""

import re
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(?P<language>\w+)(?: title=(?P<title>\S+))?\n(?P<body>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    language: str
    title: str | None
    body: str

    @property
    def commands(self) -> list[str]:
        """Shell commands, with lines that end in a backslash joined."""
        joined = self.body.replace("\\\n", " ")
        return [line.strip() for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def blocks(page: Path) -> list[Block]:
    """Return a page's fenced blocks in order."""
    return [
        Block(match["language"], match["title"], match["body"])
        for match in FENCE.finditer(page.read_text(encoding="utf-8"))
    ]
