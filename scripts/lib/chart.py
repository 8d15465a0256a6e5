"""Bar charts as SVG text, readable on light and dark pages."""

from html import escape

COLOURS = ["#2a9d8f", "#e9a03b", "#7b6fd0", "#d1495b", "#6c757d"]
LABEL, BAR, GAP, WIDTH, NUMBER = 190, 13, 12, 420, 150


def speeds(title, rows, names):
    """How fast each of `names` runs each row's model, ours 1: rows as scripts/compare makes them."""
    bars = [(row["model"], [(n, 1 / row["ratio"][n] if row["ratio"][n] else None) for n in names]) for row in rows]
    longest = max([value for _, group in bars for _, value in group if value] or [1])
    parts, y = [], 70
    for model, group in bars:
        middle = y + len(names) * BAR / 2 + 4
        parts.append(f'<text x="{LABEL - 8}" y="{middle}" text-anchor="end">{escape(model)}</text>')
        for index, (_, value) in enumerate(group):
            colour, length = COLOURS[index % len(COLOURS)], (value or 0) / longest * WIDTH
            parts.append(f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="{BAR - 2}" fill="{colour}"/>')
            shown = "not measured" if value is None else f"{value:.2f}"
            parts.append(f'<text class="n" x="{LABEL + length + 5:.1f}" y="{y + BAR - 3}">{shown}</text>')
            y += BAR
        y += GAP
    key = "".join(
        f'<rect x="{LABEL + 125 * i}" y="46" width="10" height="10" fill="{COLOURS[i % len(COLOURS)]}"/>'
        f'<text x="{LABEL + 125 * i + 15}" y="55">{escape(name)}</text>'
        for i, name in enumerate(names)
    )
    width = LABEL + max(WIDTH + NUMBER, 125 * len(names))
    style = (
        "text{font:12px sans-serif;fill:#222}.n{font-size:10px}.t{font-size:13px}"
        "@media(prefers-color-scheme:dark){text{fill:#ddd}}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" width="{width}" height="{y}">'
        f"<style>{style}</style>"
        f'<text class="t" x="8" y="18">Speed relative to coracle (1.00): longer is faster</text>'
        f'<text x="8" y="35">{escape(title)}</text>'
        f"{key}{''.join(parts)}</svg>\n"
    )
