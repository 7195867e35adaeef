"""`kpedge demo`: train, export, verify and run on synthetic faces, with a page that shows every step."""
