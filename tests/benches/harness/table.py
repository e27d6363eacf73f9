"""The figures of all rounds as one table, min/median/max, for the terminal and for Markdown."""

import statistics


def rows(measures, peers, runs, groups):
    """One (title, [cell for each peer]) per row; `runs` holds (measure, peer, report) of every round."""
    table = []
    for measure in measures:
        for row in measure.rows:
            if row.group in groups:
                cells = [_cell(row, [r for m, p, r in runs if (m, p) == (measure.name, peer)]) for peer in peers]
                if any(cell != "–" for cell in cells):
                    table.append((row.title, cells))
    return table


def _cell(row, reports):
    if any("error" in report for report in reports):
        return "failed"
    values = [value for value in map(row.value, reports) if value is not None]
    if not values:
        return "–"
    figures = (min(values), statistics.median(values), max(values))
    words = [f"{figure:,.{row.digits}f}" for figure in figures]
    return words[0] if len(set(words)) == 1 else "/".join(words)


def terminal(table, peers):
    """Columns of equal width."""
    lines = [["", *peers], *([title, *cells] for title, cells in table)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(word.ljust(width) if column == 0 else word.rjust(width)
                  for column, (word, width) in enumerate(zip(line, widths)))
        for line in lines
    )


def markdown(table, peers, about):
    """The same for a document, with what it was measured on."""
    lines = [f"- {line}" for line in about] + [""]
    lines += ["| | " + " | ".join(peers) + " |", "|---" * (len(peers) + 1) + "|"]
    lines += ["| " + " | ".join([title, *cells]) + " |" for title, cells in table]
    return "\n".join(lines) + "\n"


def replace_between(document, name, content):
    """The document with what stands between `<!-- name:begin -->` and `<!-- name:end -->` replaced."""
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
    head, rest = document.split(begin, 1)
    _, tail = rest.split(end, 1)
    return head + begin + content + end + tail
