"""The endpoint: a FastAPI service that answers robots with actions from one verified bundle."""
