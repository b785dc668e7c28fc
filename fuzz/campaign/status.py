"""``status.csv``: a line a case, with the seconds of each stage."""

from __future__ import annotations

import csv
import io

from graphopt.fuzz.campaign.report import CampaignReport

COLUMNS = ("case", "stream", "status", "signatures", "seconds")


def status_csv(report: CampaignReport) -> str:
    """The cases of a campaign; after :data:`COLUMNS`, a column for each stage, by name."""
    stages = sorted(report.stage_seconds)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*COLUMNS, *stages])
    for row in report.rows:
        times = [f"{row.seconds[s]:.4f}" if s in row.seconds else "" for s in stages]
        total = f"{sum(row.seconds.values()):.4f}"
        writer.writerow([row.label, row.stream, row.status, "; ".join(row.signatures), total, *times])
    return out.getvalue()
