"""The report of an experiment as one self-contained HTML page. Reads a store, writes nothing into it but the page."""
