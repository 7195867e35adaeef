"""`kpedge demo`: the whole story on synthetic faces and the sample photo, and the page that tells it."""
