"""The live preview in a browser: latest frames for any number of viewers, an ASGI application, and one static page."""
