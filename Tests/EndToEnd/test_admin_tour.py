"""Runs docs/admin-api.md: its config, its commands in their order, and what they are said to answer.

In a block ```` ```console ````, a line that starts with `$ ` is a command for bash; a line that ends in a
backslash goes on in the next, and a here-document until its END. What follows are lines of its output, in their
order: `…` stands for any text within a line, and a line that is `…` alone for any lines. The first block
```` ```yaml ```` is the config.
"""

import re
import subprocess

from contract import CONTRACT
from program import BINARY, REPOSITORY, environment

TOUR = REPOSITORY / "docs/admin-api.md"


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```$", TOUR.read_text(), re.MULTILINE | re.DOTALL)


def commands():
    """The commands, each with the lines that it shall print."""
    found = []
    for block in blocks("console"):
        lines = iter(block.splitlines())
        for line in lines:
            if line.startswith("$ "):
                command = line[2:]
                while command.endswith("\\") or "<<'END'" in command and not command.endswith("\nEND"):
                    command += "\n" + next(lines)
                found.append((command, []))
            else:
                found[-1][1].append(line)
    return found


def fits(expected, output):
    """Whether the output has these lines; see above."""
    pattern = ""
    for line in expected:
        if line.strip() == "…":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*".join(map(re.escape, line.split("…"))) + r"[ \t]*\n"
    return re.fullmatch(pattern, output) is not None


def test_the_tour(programs):
    program = programs.run(blocks("yaml")[0], listeners=1)
    mark = "-- the end of command {} --"
    script = "".join(
        f"{command}\necho; echo '{mark.format(index)}'\n" for index, (command, _) in enumerate(commands())
    )
    # The directory of the program: the tour changes its config file, too.
    path = f"{BINARY.parent}:{environment('/')['PATH']}"
    ended = subprocess.run(
        ["bash"],
        input=script,
        cwd=program.directory,
        env={**environment(program.directory), "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    rest = ended.stdout
    for index, (command, expected) in enumerate(commands()):
        output, found, rest = rest.partition(f"\n{mark.format(index)}\n")
        assert found, f"no end of: {command}\n{output}"
        output = output + "\n" if output and not output.endswith("\n") else output
        assert not expected or fits(expected, output), f"$ {command}\n{output}\nis not\n" + "\n".join(
            expected
        )


def test_the_tour_comes_to_each_operation():
    text = "\n".join(command for command, _ in commands())
    for path, item in CONTRACT.document["paths"].items():
        pattern = re.escape(path).replace(r"\{name\}", r"\w+").replace(r"\{id\}", r"[$\w]+") + r"(?![\w/])"
        for method in item.keys() - {"parameters"}:
            lines = [line for line in text.replace("\\\n", " ").splitlines() if re.search(pattern, line)]
            wanted = "-X " + method.upper()
            assert any((wanted in line) if method != "get" else "-X" not in line for line in lines), (
                f"the tour does not show {method.upper()} {path}"
            )
