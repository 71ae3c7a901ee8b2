# ruff: noqa: E501 - lines of HTML
"""The page of the calibration report (jinja2). A module, so that it is there wherever the package is."""

from __future__ import annotations

from calibration.report_page import page

__all__ = ["TEMPLATE"]

TEMPLATE = page(
    "Calibration report",
    """<h1>Calibration report</h1>
<p class="quiet">{{ rig.visible.identity or 'visible camera' }} {{ rig.visible.width }}x{{ rig.visible.height }}
and {{ rig.thermal.identity or 'thermal camera' }} {{ rig.thermal.width }}x{{ rig.thermal.height }}. Board: {{ board }}. {{ rig.created }}</p>
<div class="verdict{{ ' good' if good else '' }}">{{ 'Good: every check is passed' if good else 'Not good: at least one check has failed' }}</div>
<section><div class="row tiles">
<div class="tile"><div class="quiet">transfer error, held out</div><div class="big">{{ '%.2f'|format(median) }} thermal px</div>median, 95 %: {{ '%.2f'|format(p95) }}</div>
<div class="tile"><div class="quiet">uncertainty, largest</div><div class="big">{{ '%.2f'|format(two_sigma) }} visible px</div>2 sigma, at Z0</div>
<div class="tile"><div class="quiet">distances inside {{ '%g'|format(budget) }} visible px</div><div class="big">{{ '%.2f'|format(range.near_m) }} m to {{ far }}</div>exact at {{ '%.2f'|format(range.exact_m) }} m</div>
<div class="tile"><div class="quiet">views</div><div class="big">{{ accepted }} of {{ total }}</div>accepted; found:<br>
{% for side, n, of in found %}{{ side }} {{ n }}/{{ of }}{{ ', ' if not loop.last }}{% endfor %}</div>
</div><p class="quiet">{% if good %}To use it, set calibration.file to the calibration file that lies beside this report; the live picture is then exact at
{{ '%.2f'|format(range.exact_m) }} m.{% else %}What has failed stands below, with what to do. The figures may still be right: a check asks for evidence, and
more views give it.{% endif %}</p>{% for told in causes %}<p>{{ told }}</p>{% endfor %}</section>
<section><h2>Checks</h2><table><tr><th>check</th><th>wanted</th><th>measured</th><th></th></tr>
{% for gate in gates %}<tr><td>{{ gate.name }}</td><td>{{ gate.wanted }}</td><td>{{ gate.got }}</td>
<td>{% if gate.passed %}<span class="ok">passed</span>{% else %}<span class="bad">failed</span> {{ gate.advice }}{% endif %}</td></tr>{% endfor %}
</table></section>
<section><h2>How exact it is</h2>
<table><tr><th></th><th>known to (2 sigma)</th><th>aim</th><th></th></tr>
<tr><td>rotation between the cameras</td><td>{{ '%.3f'|format(aim.rotation_deg) }} degrees</td><td>{{ '%g'|format(aim_deg) }} degrees</td>
<td><span class="{{ 'ok' if aim.rotation_deg <= aim_deg else 'quiet' }}">{{ 'reached' if aim.rotation_deg <= aim_deg else 'not reached' }}</span></td></tr>
<tr><td>where thermal lands in the visible picture at Z0, worst place of the common field</td><td>{{ '%.2f'|format(aim.homography_px) }} visible px</td><td>{{ '%g'|format(aim_px) }} visible px</td>
<td><span class="{{ 'ok' if aim.homography_px <= aim_px else 'quiet' }}">{{ 'reached' if aim.homography_px <= aim_px else 'not reached' }}</span></td></tr></table>
<p class="quiet">The noise of the found points allows this; a third is added for errors that neighbouring points have in common. Boards that bend or move show in the checks above, not here. The aim is finer
than the checks: a rig short of it serves if every check is passed. More views, and boards held still for longer, bring it nearer.</p></section>
<section><h2>Distance range</h2>
<p>The two cameras are {{ '%.1f'|format(baseline_mm) }} mm apart. A picture can be exact at one distance Z0 only; anything at
distance Z lies d(Z) = f B |1/Z - 1/Z0| visible pixels off. The fusion network absorbs about {{ '%g'|format(budget) }} visible px at its input
resolution, and calibration error and time skew share that budget.</p>
{{ parallax_svg }}
<h2>Which working distance?</h2>
<table><tr><th>needed</th><th>Z0 to set</th><th>range with the whole budget</th><th>range with half of it (4 visible px left for motion)</th></tr>
{% for row in advice %}<tr><td>{{ row.need }}</td><td>{{ '%.2f'|format(row.z0) }} m</td><td>{{ row.whole }}</td><td>{{ row.half }}</td></tr>{% endfor %}
</table></section>
<section><h2>Uncertainty over the visible picture</h2>
<p>2 sigma in visible pixels of where a thermal point lands at Z0: the larger of what the noise of the found points allows (at most
{{ '%.2f'|format(predicted) }} visible px) and of what weighing the views otherwise changes, which also sees boards that bend or move. Grey: thermal does not see it.</p>{{ uncertainty_svg }}</section>
<section><h2>Coverage</h2><p>Board points in each part of the field of view that both cameras share. Red: none yet. Grey: not shared.</p><div class="row">
{% for side, share, svg in coverage %}<div><b>{{ side }}</b>, {{ '%.0f'|format(share * 100) }} % of the common field<br>{{ svg }}</div>{% endfor %}</div></section>
<section><h2>Residual of each view</h2><div class="row">{% for side, svg in residual_svg %}<div><b>{{ side }}</b>, rms {{ side }} px<br>{{ svg }}</div>{% endfor %}</div></section>
<section><h2>Geometry</h2><table><tr><th></th><th>focal length</th><th>centre</th><th>field of view</th><th>distortion k1 k2 p1 p2</th><th>noise of a point</th></tr>
{% for side, camera, sigma, noise in cameras %}<tr><td>{{ side }}</td><td>{{ '%.1f'|format(camera.fx_px) }} x {{ '%.1f'|format(camera.fy_px) }} px (&plusmn;{{ '%.1f'|format(sigma[0]) }})</td>
<td>{{ '%.1f'|format(camera.cx_px) }}, {{ '%.1f'|format(camera.cy_px) }} (&plusmn;{{ '%.1f'|format(sigma[2]) }}, {{ '%.1f'|format(sigma[3]) }})</td><td>{{ '%.1f'|format(camera.hfov_deg) }} deg</td>
<td>{% for k in camera.distortion[:4] %}{{ '%.4f'|format(k) }} {% endfor %}</td><td>{{ '%.3f'|format(noise) }} {{ side }} px</td></tr>{% endfor %}</table>
<p>Figures after &plusmn; are 1 sigma. Thermal to visible: rotation {{ rotation }} (&plusmn;{{ '%.3f'|format(rotation_sigma) }} degrees in all); cameras
{{ '%.1f'|format(baseline_mm) }} mm apart (&plusmn;{{ '%.1f'|format(baseline_sigma_mm) }}); translation {{ '%.1f'|format(t_mm[0]) }}, {{ '%.1f'|format(t_mm[1]) }}, {{ '%.1f'|format(t_mm[2]) }} mm
(X_visible = R X_thermal + t).</p>{% if time_offset %}<p>{{ time_offset|capitalize }}.</p>{% endif %}</section>
{% if blends %}<section><h2>Pictures</h2><p>Thermal edges (red), moved in the plane of the board, on the visible picture. They must lie on the
pattern's edges, all over the board; as wide as they are blurred.</p><div class="row">
{% for name, picture in blends %}<figure><img src="{{ picture }}" alt="thermal edges over visible, {{ name }}"><figcaption class="quiet">{{ name }}</figcaption></figure>{% endfor %}</div></section>{% endif %}
<section><h2>Views</h2><table><tr><th>view</th><th>visible</th><th>thermal</th><th>result</th></tr>
{% for view in views %}<tr><td>{{ view.name }}</td>{% for picture in view.pictures %}<td><img src="{{ picture }}" width="300" alt="{{ view.name }}"><br><span class="quiet">{{ view.rungs[loop.index0] }}</span></td>{% endfor %}
<td>{% if view.rms %}<span class="ok">accepted</span><br>rms {{ '%.2f'|format(view.rms[0]) }} / {{ '%.2f'|format(view.rms[1]) }} visible / thermal px{% if view.held is not none %}<br>held out {{ '%.2f'|format(view.held) }} thermal px{% endif %}
{% else %}<span class="bad">rejected</span><br>{{ view.rejected or 'not part of a usable pair' }}{% endif %}</td></tr>{% endfor %}
</table></section>
""",
    ".tiles{gap:20px 32px}figure{margin:0;max-width:31%}",
)
