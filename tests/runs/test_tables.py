"""Plain-text tables."""

from expertgen_jax.runs import tables


def test_table_aligns_columns() -> None:
    rows = [
        {"policy": "script", "strict": "31.2 %", "interval": "28.4-34.1 %"},
        {"policy": "expert, steered", "strict": "100.0 %", "episodes": "1024"},
    ]
    assert tables.table(rows).splitlines() == [
        "policy            strict     interval  episodes",
        "---------------  -------  -----------  --------",
        "script            31.2 %  28.4-34.1 %",
        "expert, steered  100.0 %                   1024",
    ]


def test_table_without_rows_is_empty() -> None:
    assert tables.table([]) == ""
