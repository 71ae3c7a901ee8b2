# ruff: noqa: E501 - lines of a page, not of a program
"""The page of the data set's report (jinja2). A module, so that it is there wherever the package is."""

from __future__ import annotations

__all__ = ["TEMPLATE"]

TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Training set report</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body{font:15px/1.5 system-ui,sans-serif;color:#20252c;background:#f6f7f9;margin:0}
main{max-width:1060px;margin:0 auto;padding:24px}
section{background:#fff;border:1px solid #dfe3e8;border-radius:8px;padding:16px 22px;margin:16px 0}
h1{font-size:24px;margin:0 0 4px}h2{font-size:18px;margin:0 0 8px}
table{border-collapse:collapse;width:100%}
td,th{white-space:normal;padding:5px 10px 5px 0;text-align:left;vertical-align:top;border-bottom:1px solid #edf0f3}
.quiet{color:#5d6672}.bad{color:#b4432f;font-weight:600}
.row{display:flex;gap:28px;flex-wrap:wrap}.big{font-size:26px;font-weight:600}.tile{min-width:150px}
img{max-width:100%;border-radius:4px;display:block}svg{max-width:100%;height:auto}
</style></head><body><main>
<h1>Training set</h1><p class="quiet">{{ folder }}</p>
<section><div class="row">
<div class="tile"><div class="quiet">pairs kept</div><div class="big">{{ kept }}</div>{{ training }} to train on, {{ validation }} held out</div>
<div class="tile"><div class="quiet">pairs rejected</div><div class="big">{{ rejected }}</div>after alignment was tried</div>
<div class="tile"><div class="quiet">residual of kept pairs</div><div class="big">{{ px(median, 2) }}</div>median of the pairs' medians; 95 % of pairs below {{ px(p95, 2) }}</div>
<div class="tile"><div class="quiet">to be expected at 95 %</div><div class="big">{{ px(expected, 1) }}</div>of the places where both show structure; a thermal pixel is {{ px(pitch, 1) }}</div>
</div>{% for warning in warnings %}<p class="bad">{{ warning }}</p>{% endfor %}</section>
<section><h2>Residual after alignment</h2>
<p>Pairs by the median residual in px, measured again on the aligned pictures wherever both show structure. Green: kept. The
outlines of near things are seen badly by this measure, and are where errors are largest: what is expected takes them in (docs/training.md).</p>{{ histogram }}</section>
<section><h2>Sessions</h2><table><tr><th>session</th><th>part</th><th>kept</th><th>rejected</th><th>displacement undone</th><th>residual, median</th><th>95 %</th><th>95 % to be expected</th></tr>
{% for s in sessions %}<tr><td>{{ s.name }}</td><td>{{ s.part }}</td><td>{{ s.kept }}</td><td>{{ s.rejected }}</td>
<td>{{ px(s.displacement, 1) }}</td><td>{{ px(s.median, 2) }}</td><td>{{ px(s.p95, 2) }}</td><td>{{ px(s.expected, 1) }}</td></tr>{% endfor %}</table></section>
<section><h2>Why frames were left out</h2><table><tr><th>frames</th><th>reason</th></tr>
{% for reason, count in left_out %}<tr><td>{{ count }}</td><td>{{ reason }}</td></tr>{% endfor %}</table>
<h2>Why pairs were rejected</h2><table><tr><th>pairs</th><th>reason</th></tr>
{% for reason, count in reasons %}<tr><td>{{ count }}</td><td>{{ reason }}</td></tr>{% else %}<tr><td>0</td><td>none was rejected</td></tr>{% endfor %}</table></section>
<section><h2>Kept pairs</h2><p>Visible, thermal as stored, and thermal edges (red) on visible.</p>
{% for tile in tiles %}<p><img src="{{ tile.picture }}" alt="{{ tile.record.stem }}">
<span class="quiet">{{ tile.record.stem }}, {{ tile.record.part }}; residual {{ px(tile.record.residual_median_px, 2) }}, 95 % {{ px(tile.record.residual_p95_px, 2) }}, to be expected {{ px(tile.record.expected_p95_px, 1) }}; correlation {{ '%.2f'|format(tile.record.correlation) }}</span></p>{% endfor %}</section>
<section><h2>Rejected pairs</h2><table><tr><th>pair</th><th>time</th><th>reason</th><th>correlation</th><th>judged</th><th>residual</th></tr>
{% for r in rejects %}<tr><td>{{ r.stem }}</td><td>{{ '%.1f'|format(r.time_s) }} s</td><td>{{ r.reason }}</td><td>{{ '%.2f'|format(r.correlation) }}</td>
<td>{{ '%.0f'|format(r.judged * 100) }} %</td><td>{{ px(r.residual_median_px, 2) }} / {{ px(r.residual_p95_px, 2) }}</td></tr>{% endfor %}</table></section>
</main></body></html>
"""
