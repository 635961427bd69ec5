"""A curve is as wide and high as asked, falls where losses fall, and reads the CSV that a stage leaves."""

from echo_cli.training.chart import curve, losses


def test_a_falling_loss_falls():
    lines = curve([40 - step for step in range(40)], width=40, height=4)
    assert [line.split("┤")[0].strip() for line in (lines[0], lines[-1])] == ["40", "1"]
    filled = [sum(sign != " " for sign in line[11:]) for line in lines]
    assert filled == [10, 20, 30, 40]


def test_few_and_equal_losses_have_a_curve_too():
    assert len(curve([2.0], height=3)) == 3
    assert len({len(line) for line in curve([1.0, 1.0, 1.0], height=2)}) == 1


def test_a_column_is_read_and_gaps_are_left_out(tmp_path):
    (tmp_path / "a.csv").write_text("step,loss,extra\n1,0.5,\n2,0.25,7\n")
    assert losses(tmp_path / "a.csv") == [0.5, 0.25]
    assert losses(tmp_path / "a.csv", "extra") == [7.0]
