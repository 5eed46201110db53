"""Finds the code blocks in README and docs, and runs them as a reader would."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from schemas.configuration.child_environment import without_settings

ROOT = Path(__file__).parent.parent.parent.parent
PAGES = {
    "README.md": ROOT / "README.md",
    **{p.name: p for p in sorted((ROOT / "docs").glob("*.md"))},
}
FENCE = re.compile(r'^```(?P<language>\w*)(?: title="(?P<title>[^"]+)")?\n(?P<code>.*?)^```$', re.MULTILINE | re.DOTALL)
ADDRESS = "127.0.0.1:9092"  # of Kafka, as on the pages


class Block(NamedTuple):
    """One fenced block."""

    page: str
    line: int
    language: str
    title: str | None
    code: str
    illustration: bool  # marked as not to be run

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    """The code blocks of a page, in order."""
    text = PAGES[page].read_text(encoding="utf-8")
    assert text.count("\n```") % 2 == 0, f"{page}: a block is not closed"
    found = []
    for match in FENCE.finditer(text):
        after = text[match.end() :].lstrip("\n")
        found.append(
            Block(
                page,
                text.count("\n", 0, match.start()) + 1,
                match["language"],
                match["title"],
                match["code"],
                after.startswith("*(An illustration"),
            )
        )
    return found


@dataclass
class DocRunner:
    """Runs the blocks of pages in one folder; long-running commands get a process each, like a terminal."""

    folder: Path
    bootstrap: str
    environment: Mapping[str, str]
    terminals: list[subprocess.Popen[bytes]] = field(default_factory=list)
    transcript: list[str] = field(default_factory=list)  # lines that the blocks have printed

    def follow(self, page: str) -> Iterator[tuple[Block, str]]:
        """Run a page's blocks in order; yields each block with its output."""
        for block in blocks(page):
            if not block.illustration:
                yield block, self.run(block)

    def run(self, block: Block) -> str:
        """Run one block. It must succeed; a block for a terminal is only started."""
        if block.language == "sh":
            script = "\n".join(line for line in block.code.splitlines() if not line.startswith(("make ", "source ")))
            if block.title and block.title.startswith("terminal"):
                return self.start(block, script)
            return self.finish(block, ["bash", "-euo", "pipefail", "-c", script])
        code = block.code.replace(ADDRESS, self.bootstrap)
        name = block.title or f"block-{block.line}.{block.language}"
        (self.folder / name).write_text(code, encoding="utf-8")
        return self.finish(block, [sys.executable, name]) if block.language == "python" else ""

    def finish(self, block: Block, command: list[str]) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=400, check=False
        )
        assert done.returncode == 0, f"{block}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        self.transcript += done.stdout.splitlines()
        return done.stdout

    def start(self, block: Block, script: str) -> str:
        log = self.folder / f"{block.title}.log"
        with log.open("wb") as output:
            started = subprocess.Popen(
                ["bash", "-c", f"exec {script.strip()}"],
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.terminals.append(started)
        return ""

    def logs(self) -> str:
        return "\n".join(f"{p.name}: {p.read_text()[-2000:]}" for p in sorted(self.folder.glob("terminal*.log")))

    def leave(self) -> list[int]:
        """Terminate the long-running commands, as Ctrl-C does; returns their exit codes."""
        for terminal in self.terminals:
            if terminal.poll() is None:
                terminal.terminate()
        return [terminal.wait(60) for terminal in self.terminals]


def environment(bootstrap: str, ports: Mapping[str, int]) -> dict[str, str]:
    """A reader's environment: the project's commands on the path, a running Kafka, and free ports."""
    kept = without_settings()
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
    set_ports = {f"TAMIZ_{name.upper()}": str(port) for name, port in ports.items()}
    return kept | {"PATH": path, "COLUMNS": "100", "TAMIZ_BOOTSTRAP_SERVERS": bootstrap} | set_ports
