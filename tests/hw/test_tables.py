from rich.console import Console

from hw.tables import markdown_table, text_table


def test_a_markdown_table_escapes_what_would_end_a_cell():
    text = markdown_table(("a", "b"), [(1, "x|y"), ("`c`", "")])
    assert text == "| a | b |\n| --- | --- |\n| 1 | x\\|y |\n| `c` |  |\n"


def test_a_text_table_has_figures_at_the_right():
    table = text_table("name", "what", "cycles", title="Runs", words=2, unbroken=(1,))
    assert [column.justify for column in table.columns] == ["left", "left", "right"]
    assert [column.no_wrap for column in table.columns] == [False, True, False]
    assert table.show_header and not text_table("", "").show_header
    table.add_row("a", "b", "1,000")
    console = Console(width=60)
    with console.capture() as capture:
        console.print(table)
    assert "Runs" in capture.get() and "1,000" in capture.get()
