# ruff: noqa: E501 - lines of a page, not of a program
"""The frame of every HTML report of this project (jinja2): one head, one style."""

from __future__ import annotations

__all__ = ["page"]

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#20252c;background:#f6f7f9;margin:0}
main{max-width:1060px;margin:0 auto;padding:24px}
section{background:#fff;border:1px solid #dfe3e8;border-radius:8px;padding:16px 22px;margin:16px 0}
h1{font-size:24px;margin:0 0 4px}h2{font-size:18px;margin:0 0 8px}
table{border-collapse:collapse;width:100%}td,th{padding:5px 10px 5px 0;text-align:left;vertical-align:top;border-bottom:1px solid #edf0f3}
.verdict{font-size:20px;font-weight:600;padding:12px 22px;border-radius:8px;color:#fff;background:#b4432f}.verdict.good{background:#2d7d46}
.bad{color:#b4432f;font-weight:600}.ok{color:#2d7d46;font-weight:600}.quiet{color:#5d6672}
.row{display:flex;gap:28px;flex-wrap:wrap}.tile{min-width:150px}.big{font-size:24px;font-weight:600;white-space:nowrap}
svg{max-width:100%;height:auto}img{max-width:100%;border-radius:4px}
"""


def page(title: str, body: str, style: str = "") -> str:
    """A whole page as a template: `body` goes into <main>, `style` is CSS for this page alone."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{_STYLE}{style}</style></head><body><main>
{body}</main></body></html>
"""
