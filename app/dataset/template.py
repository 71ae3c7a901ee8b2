# ruff: noqa: E501 - lines of a page, not of a program
"""The page of the data set's report (jinja2). A module, so that it is there wherever the package is."""

from __future__ import annotations

from calibration.report_page import page

__all__ = ["TEMPLATE"]

TEMPLATE = page(
    "Training set report",
    """<h1>Training set</h1><p class="quiet">{{ folder }}</p>
<section><div class="row">
<div class="tile"><div class="quiet">pairs kept</div><div class="big">{{ kept }}</div>{{ training }} to train on, {{ validation }} held out</div>
<div class="tile"><div class="quiet">pairs rejected</div><div class="big">{{ rejected }}</div>after alignment was tried</div>
<div class="tile"><div class="quiet">residual of kept pairs</div><div class="big">{{ px(median, 2) }}</div>median of the pairs' medians; 95 % of pairs below {{ px(p95, 2) }}</div>
<div class="tile"><div class="quiet">to be expected at 95 %</div><div class="big">{{ px(expected, 1) }}</div>of the places where both show structure; a thermal pixel is {{ px(pitch, 1) }}</div>
</div>{% for warning in warnings %}<p class="bad">{{ warning }}</p>{% endfor %}</section>
<section><h2>Residual after alignment</h2>
<p>Pairs by the median residual in px, measured again on the aligned pictures wherever both show structure. Green: kept. The
outlines of near things are seen badly by this measure, and are where errors are largest: what is expected takes them in (docs/evidence/training.md).</p>{{ histogram }}</section>
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
""",
    "img{display:block}",
)
