"""The service's description: an OpenAPI document, and a page for people."""

from typing import Any

from kpedge import __version__
from kpedge.core.scheme import KeypointScheme
from kpedge.runtime.service.limits import Limits

FLAGS = {
    "pose": "add the head pose: yaw, pitch and roll in degrees",
    "features": "add openness of eyes and mouth, smile, brows, gaze, and position in mm",
    "names": "add the keypoints' names",
}
"""Parameter of a request -> what it does; as the flags of `kpedge predict`."""
ERRORS = {
    400: "the request or a parameter cannot be understood",
    405: "the address takes another method; Allow says which",
    408: "the body came too slowly",
    413: "the photo has too many bytes or pixels",
    422: "the photo cannot be decoded",
    429: "too many requests from this address; Retry-After says when to try again",
    503: "too many requests at a time; Retry-After says when to try again",
}
"""Status -> when it is sent."""


def _numbers(*shape: int) -> dict[str, Any]:
    """The schema of an array of numbers of this shape; 0 is any length."""
    schema: dict[str, Any] = {"type": "number"}
    for length in reversed(shape):
        schema = {"type": "array", "items": schema} | ({"minItems": length, "maxItems": length} if length else {})
    return schema


def openapi(scheme: KeypointScheme, limits: Limits) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    photo = {"type": "string", "format": "binary"}
    form = {"type": "object", "required": ["photo"], "properties": {"photo": photo}}
    face = {
        "box": _numbers(4) | {"description": "x1 y1 x2 y2, pixels of the photo"},
        "score": {"type": ["number", "null"], "description": "0 to 1"},
        "keypoints": _numbers(0, 2) | {"description": f"x y, pixels of the photo: {', '.join(scheme.points)}"},
        "errors": _numbers(0) | {"description": "expected error of each keypoint, pixels"},
        "pose": {"type": "object", "additionalProperties": {"type": "number"}},
        "features": {"type": "object", "additionalProperties": {"type": ["number", "null"]}},
    }
    result = {
        "image": {"type": "string", "description": "the name that the request gave"},
        "size": _numbers(2) | {"description": "width and height, pixels"},
        "scheme": {"type": "string", "const": scheme.name},
        "names": {"type": "array", "items": {"type": "string"}},
        "faces": {"type": "array", "items": {"$ref": "#/components/schemas/Face"}},
    }
    error = {"error": {"type": "string"}, "advice": {"type": "string"}}

    def schema(properties: dict[str, Any], *required: str) -> dict[str, Any]:
        return {"type": "object", "required": list(required), "properties": properties}

    def content(name: str) -> dict[str, Any]:
        return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}

    parameters: list[dict[str, Any]] = [
        {"name": flag, "in": "query", "description": text, "schema": {"type": "boolean", "default": False}}
        for flag, text in FLAGS.items()
    ]
    parameters.append({"name": "name", "in": "query", "description": "of the photo", "schema": {"type": "string"}})
    predict = {
        "operationId": "predict",
        "summary": "Find the faces of a photo and their keypoints",
        "parameters": parameters,
        "requestBody": {
            "required": True,
            "description": f"The photo, or a form with it: {limits.max_bytes:,} bytes at most.",
            "content": {"image/*": {"schema": photo}, "multipart/form-data": {"schema": form}},
        },
        "responses": {"200": {"description": "the faces", "content": content("Photo")}}
        | {str(status): {"description": text, "content": content("Error")} for status, text in ERRORS.items()},
    }

    def get(name: str, summary: str) -> dict[str, Any]:
        return {"get": {"operationId": name, "summary": summary, "responses": {"200": {"description": summary}}}}

    return {
        "openapi": "3.1.0",
        "info": {"title": "kpedge", "version": __version__, "description": "Faces and their keypoints in photos."},
        "paths": {
            "/v1/predict": {"post": predict},
            "/healthz": get("health", "Whether the service takes requests"),
            "/metrics": get("metrics", "Prometheus metrics"),
        },
        "components": {
            "schemas": {
                "Face": schema(face, "box", "score", "keypoints"),
                "Photo": schema(result, "image", "size", "scheme", "faces"),
                "Error": schema(error, "error"),
            }
        },
    }


def docs_page(limits: Limits) -> str:
    """A page with a form, examples and the limits."""
    errors = "".join(f"<tr><td>{status}<td>{text}" for status, text in ERRORS.items())
    flags = "".join(f"<tr><td><code>{flag}=true</code><td>{text}" for flag, text in FLAGS.items())
    rate = f"{limits.rate:g} requests per second from one address, " if limits.rate else ""
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>kpedge serve</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body{{font:16px/1.5 sans-serif;max-width:45rem;margin:2rem auto;padding:0 1rem}}
pre{{background:#eee;padding:1rem;overflow:auto}}td{{padding-right:1rem;vertical-align:top}}</style>
<h1>kpedge {__version__}</h1>
<p>Send a photo, get its faces as JSON, as <code>kpedge predict --json</code> prints them.</p>
<pre>curl --data-binary @photo.jpg 'http://HOST:PORT/v1/predict?name=photo.jpg'
curl -F photo=@photo.jpg 'http://HOST:PORT/v1/predict?pose=true'</pre>
<form action="/v1/predict" method="post" enctype="multipart/form-data">
<label>Photo: <input type="file" name="photo" required></label> <button>Find faces</button></form>
<h2>Parameters</h2><table>{flags}</table>
<h2>Limits</h2>
<p>{limits.max_bytes:,} bytes and {limits.max_pixels:,} pixels per photo, {rate}{limits.queue} at a time.</p>
<h2>Errors</h2><p>JSON with <code>error</code> and, where there is one, <code>advice</code>:</p><table>{errors}</table>
<p><a href="/openapi.json">OpenAPI</a>, <a href="/metrics">metrics</a>, <a href="/healthz">health</a></p></html>
"""
