"""Draws docs/membership-cost.svg from docs/membership-cost.csv. Needs matplotlib."""

import csv
from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "membership-cost"
from matplotlib import pyplot as plot

HERE = Path(__file__).parent
STYLES = {"moshe": ("#1f5f8b", "o"), "wombat": ("#c8553d", "s")}

with open(HERE / "membership-cost.csv") as file:
    ROWS = list(csv.DictReader(file))


def draw(axes, what, across, measure, **fixed):
    """One line for each protocol: `measure` of `what` across a column, where the other columns are as given."""
    for protocol, (color, marker) in STYLES.items():
        rows = [row for row in ROWS if row["what"] == what and row["protocol"] == protocol]
        rows = [row for row in rows if all(row[key] == str(value) for key, value in fixed.items())]
        points = sorted((float(row[across]), float(row[measure])) for row in rows)
        axes.plot(*zip(*points), color=color, marker=marker, markersize=3.5, linewidth=1.4, label=protocol)


figure, ((calm, crash), (row, views)) = plot.subplots(2, 2, figsize=(9, 6.6))
draw(calm, "join", "servers", "messages", daemons=8)
calm.set(title="a join or a goodbye", xlabel="servers", ylabel="messages between servers")
draw(crash, "crash", "daemons", "messages", servers=7)
crash.set(title="a crash that all daemons report, 7 servers", xlabel="daemons", ylabel="messages between servers")
draw(row, "joins in a row", "changes", "messages", servers=7)
row.set(title="joins 1.5 ms apart, 7 servers", xlabel="joins", ylabel="messages between servers")
draw(views, "joins in a row", "changes", "views", servers=7)
views.set(title="joins 1.5 ms apart, 7 servers", xlabel="joins", ylabel="configurations per daemon")
for axes in (calm, crash, row, views):
    axes.set_ylim(bottom=0)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
figure.tight_layout()
figure.savefig(HERE / "membership-cost.svg", metadata={"Date": None})
