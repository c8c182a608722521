"""Write the tables and figures of a run from its records."""

from __future__ import annotations

from collections.abc import Sequence

from iagan.experiments.paper import EXPERIMENTS
from iagan.experiments.plan import Plan
from iagan.experiments.table import cells, comma_separated, markdown, mask_spread, tex
from iagan.files import write_text
from iagan.jobs import RunFolder
from iagan.show.runs import save_curve, save_grid


def write_tables(plan: Plan, folder: RunFolder, notes: Sequence[str] = ()) -> str:
    """Write table.md, .csv, .tex and the figures of a run; returns the text of table.md.

    **Arguments:**
    - `notes`: paragraphs below the tables, each with its line break.

    **Raises:** `OutputError`; `FileError` for damaged records.
    """
    net, title_note = plan.lpips_net or "none", plan.note()
    records = folder.records()
    rows = {name: cells(name, records) for name in plan.experiments}
    rows = {name: own for name, own in rows.items() if own}
    texts, papers = [], []
    for name, own in rows.items():
        title = f"{EXPERIMENTS[name].title}{title_note}"
        masks = mask_spread(name, records)
        parts = [f"## {title}", markdown(own, net).rstrip(), masks.rstrip()]
        texts.append("".join(f"{part}\n\n" for part in parts if part))
        papers.append(tex(own, net, title))
    common = {"lpips_net": net, "effort": plan.effort, "steps_scale": plan.steps_scale}
    contents = {
        "table.md": "".join([*texts, *notes]),
        "table.tex": "\n".join(papers),
        "table.csv": comma_separated(rows, common),
    }
    for name, text in contents.items():
        write_text(folder.path / name, text)
    if "figure2" in rows:
        save_curve(rows["figure2"], folder.path / "figures" / "figure2.png", title_note)
    for _, setting, methods in plan.tasks():
        save_grid(folder.path, setting, methods, title_note)
    return contents["table.md"]
