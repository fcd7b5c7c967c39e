"""The tests: `inference/ROOM/test_FILE.py` mirrors the engine, `cases/` holds models that several tests share."""
