# SPDX-License-Identifier: Apache-2.0
"""Writes what a run found: a Markdown page, and plots."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # files only: no display is needed

import rich.box
import rich.console
import rich.table
from matplotlib import pyplot

from benchmarks.archive import Record
from benchmarks.results import Section

BAR_HEIGHT = 0.28  # inches
COLOURS = {"damo_tf": "#c23b22", "other": "#8a9ba8"}


def markdown(title: str, records: Sequence[Record]) -> str:
    """The page of all that was found.

    Args:
        title: its heading.
        records: one a workload.
    """
    parts = [f"# {title}", "## Runs", runs_table(records)]
    sections = [section for record in records for section in record.sections]
    targets = [(section.title.split(":")[0], t) for section in sections for t in section.targets]
    if targets:
        rows = [
            (title, t.text, f"{t.measured:.2f}", f"{'>=' if t.at_least else '<='} {t.limit:g}", _yes(t.met))
            for title, t in targets
        ]
        parts += ["## Targets", table(("workload", "ratio", "measured", "target", "met"), rows)]
    for section in sections:
        parts.append(f"## {section.title[0].upper()}{section.title[1:]}")
        if section.times:
            parts.append(times_table(section))
        if section.figures:
            parts.append(table(("", ""), section.figures.items()))
    return "\n\n".join(parts) + "\n"


def runs_table(records: Sequence[Record]) -> str:
    """What was typed, when and on what: one column a run, workloads of the same run together."""
    runs: dict[str, tuple[dict[str, str], list[str]]] = {}
    for record in records:
        about = {"command": f"`{record.command}`", **record.about}
        runs.setdefault(repr(about), (about, []))[1].append(record.workload)
    names = list(dict.fromkeys(name for about, _ in runs.values() for name in about))
    rows = [(name, *(about.get(name, "") for about, _ in runs.values())) for name in names]
    return table(("", *(", ".join(workloads) for _, workloads in runs.values())), rows)


def _yes(met: bool) -> str:
    return "yes" if met else "no"


def times_table(section: Section) -> str:
    """Step times of a section's contenders; the last column has also what turns left to be done."""
    reference = section.times.get(section.reference or "")
    rows = []
    for name, time in section.times.items():
        share = f"{time.median / reference.median:.2f}" if reference else ""
        spread = f"{time.low * 1e3:.1f} to {time.high * 1e3:.1f}"
        settled = (f"{time.settled.median * 1e3:.1f}",) if section.settled else ()
        ids = f"{section.batch / time.median:,.0f}"
        rows.append((name, f"{time.median * 1e3:.1f}", spread, ids, share, *settled))
    heading = f"x {section.reference}" if reference else ""
    settled_heading = ("with background work, ms a step",) if section.settled else ()
    return table(("contender", "ms a step, median", "spread", "ids/s", heading, *settled_heading), rows)


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    content = rich.table.Table(*heading, box=rich.box.MARKDOWN)
    for row in rows:
        content.add_row(*row)
    console = rich.console.Console(file=io.StringIO(), width=1_000, highlight=False, markup=False)
    console.print(content)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines() if line.strip())


def plot_times(sections: Sequence[Section], path: Path) -> None:
    """Bars of the median step times, one panel a section, their spread as whiskers."""
    timed = [section for section in sections if section.times]
    if not timed:
        return
    heights = [len(section.times) * BAR_HEIGHT + 0.7 for section in timed]
    figure, panels = pyplot.subplots(
        len(timed), figsize=(10, sum(heights)), height_ratios=heights, squeeze=False, layout="constrained"
    )
    for panel, section in zip(panels[:, 0], timed, strict=True):
        medians = [time.median * 1e3 for time in section.times.values()]
        whiskers = [
            [(time.median - time.low) * 1e3 for time in section.times.values()],
            [(time.high - time.median) * 1e3 for time in section.times.values()],
        ]
        colours = [COLOURS["damo_tf" if name.startswith("damo_tf") else "other"] for name in section.times]
        bars = panel.barh(list(section.times), medians, xerr=whiskers, color=colours, ecolor="black")
        panel.bar_label(bars, fmt=" %.1f", padding=3, fontsize=8)
        panel.margins(x=0.15)
        panel.invert_yaxis()
        panel.set_title(section.title, fontsize=9, loc="left")
        panel.tick_params(labelsize=8)
    panels[-1, 0].set_xlabel("ms a step", fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def plot_curves(sections: Sequence[Section], path: Path) -> None:
    """Step time against rows of the table."""
    for section in sections:
        if section.curves:
            figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
            for name, points in section.curves.items():
                axes.plot(*zip(*points, strict=True), marker="o", label=name)
            axes.set(xscale="log", xlabel="rows of the table", ylabel="ms a step", title=section.title)
            axes.set_ylim(bottom=0)
            axes.grid(alpha=0.3)
            axes.legend()
            figure.savefig(path, dpi=110)
            pyplot.close(figure)
