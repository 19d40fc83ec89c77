import pytest

from hw.tables import markdown_table, terminal, text_table


def test_a_markdown_table_escapes_what_would_end_a_cell():
    text = markdown_table(("a", "b"), [(1, "x|y"), ("`c`", "")])
    assert text == "| a | b |\n| --- | --- |\n| 1 | x\\|y |\n| `c` |  |\n"


def test_a_text_table_has_figures_at_the_right():
    table = text_table("name", "what", "cycles", title="Runs", words=2, unbroken=(1,))
    assert [column.justify for column in table.columns] == ["left", "left", "right"]
    assert [column.no_wrap for column in table.columns] == [False, True, False]
    assert table.show_header and not text_table("", "").show_header
    table.add_row("a", "b", "1,000")
    console = terminal(width=60)
    with console.capture() as capture:
        console.print(table)
    assert "Runs" in capture.get() and "1,000" in capture.get()


LONG = "/very/long/folder" * 9 + "/1.png"


@pytest.mark.parametrize("name", ["d[/x]/a.png", "[bold]", "a[red", ":bug:", "\\[/]", LONG, "it's \"$HOME\""])
@pytest.mark.parametrize("width", [40, 200])
def test_names_are_shown_as_they_are(name: str, width: int):
    table = text_table("name", "cycles", title=name)
    table.add_row(name, "1,000")
    console = terminal(width=width)
    with console.capture() as capture:
        console.print(name, soft_wrap=True)
        console.print(table)
    said, *shown = capture.get().splitlines()
    assert said == name
    cells = [line.split("│")[1].strip() for line in shown if line.count("│") == 3]
    assert "".join(cells).endswith(name)
