#!/usr/bin/env python3
"""Plots predicted against measured times of a validation as SVG. Standard library only.

  validation_plot.py RESULT.json OUT.svg

RESULT.json is what `signsplit validate --json` wrote, also with --replay. A point is a schedule on a problem; the vertical
axis is predicted / measured, the horizontal one the measured time, both logarithmic. The grey band is 10 %.
"""
import json
import math
import sys

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 420, 64, 170, 16, 48
LOW, HIGH = 0.5, 2.0
FAMILIES = [("unfused", "#d95f02"), ("row_fused", "#1f5fbf"), ("certified", "#1b9e77"), ("sign_split", "#8e6bbf")]


def colour_of(label):
    return next(colour for name, colour in FAMILIES if label.startswith(name))


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        points = json.load(file)["points"]
    if not points:
        sys.exit(f"{sys.argv[1]}: has no points")
    least = math.floor(math.log10(min(p["measured_s"] for p in points)))
    most = math.ceil(math.log10(max(p["measured_s"] for p in points)))

    def x_of(seconds):
        return LEFT + (math.log10(seconds) - least) / (most - least) * (WIDTH - LEFT - RIGHT)

    def y_of(ratio):
        share = (math.log(min(max(ratio, LOW), HIGH)) - math.log(LOW)) / math.log(HIGH / LOW)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<rect x="{LEFT}" y="{y_of(1.1):.1f}" width="{right - LEFT}" height="{y_of(1 / 1.1) - y_of(1.1):.1f}" fill="#e8e8e8"/>',
    ]
    for ratio in (0.5, 0.67, 0.8, 1.0, 1.25, 1.5, 2.0):
        y = y_of(ratio)
        svg.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="{"#000" if ratio == 1 else "#ccc"}"/>')
        svg.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{ratio:g}</text>')
    for power in range(least, most + 1):
        x = x_of(10**power)
        name = {-6: "1 µs", -5: "10 µs", -4: "100 µs", -3: "1 ms", -2: "10 ms", -1: "100 ms"}.get(power, f"1e{power} s")
        svg.append(f'<path d="M{x:.1f} {TOP}V{bottom}" stroke="#ccc"/>')
        svg.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{name}</text>')
    svg.append(f'<text x="{(LEFT + right) / 2:.1f}" y="{HEIGHT - 8}" text-anchor="middle">measured time of a call</text>')
    svg.append(f'<text transform="translate(16 {(TOP + bottom) / 2:.1f}) rotate(-90)" text-anchor="middle">predicted / measured</text>')
    for p in points:
        x, y = x_of(p["measured_s"]), y_of(p["predicted_s"] / p["measured_s"])
        svg.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.8" fill="{colour_of(p["label"])}" fill-opacity="0.65"/>')
    for i, (name, colour) in enumerate(FAMILIES):
        y = TOP + 16 + 20 * i
        svg.append(f'<circle cx="{right + 20}" cy="{y - 4}" r="4" fill="{colour}"/><text x="{right + 32}" y="{y}">{name}</text>')
    svg.append("</svg>\n")
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write("\n".join(svg))


if __name__ == "__main__":
    main()
