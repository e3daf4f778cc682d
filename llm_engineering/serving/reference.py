"""The reference at ``/docs``: the OpenAPI description as a plain page that needs no script and nothing from elsewhere."""

import json
from html import escape
from typing import Any

POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_STYLE = (
    "body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "pre{overflow:auto;padding:.75rem;border:1px solid #8886}code{font-size:.95em}summary{cursor:pointer}"
)


def reference_page(description: dict[str, Any]) -> str:
    """An HTML page of every operation with what it takes and what it answers."""
    info = description["info"]
    operations = [
        _operation(path, method, operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]
    shapes = [
        f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>{_json(shape)}</details>'
        for name, shape in description.get("components", {}).get("schemas", {}).items()
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])}: reference</title><style>{_STYLE}</style>"
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info.get('description', ''))}</p>"
        '<p>For programs: <a href="openapi.json">openapi.json</a></p>'
        f"<main>{''.join(operations)}<h2>Shapes</h2>{''.join(shapes)}</main></html>"
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    responses = "".join(
        f"<li><code>{escape(status)}</code> {escape(response.get('description', ''))}</li>"
        for status, response in operation["responses"].items()
    )
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    taken = f"<p>Takes</p>{_json(body)}" if body else ""
    parameters = operation.get("parameters")
    taken += f"<p>Parameters</p>{_json(parameters)}" if parameters else ""
    return (
        f"<section><h2><code>{method.upper()} {escape(path)}</code></h2>"
        f"<p>{escape(operation.get('description') or operation.get('summary', ''))}</p>{taken}"
        f"<details><summary>Answers</summary><ul>{responses}</ul></details></section>"
    )


def _json(value: object) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"
