"""Commands in documents: to be given again, without folders of one machine."""

from ser.command_text import command_text


def test_the_command_can_be_given_again_and_names_no_folder_of_one_machine():
    words = ["sweep=protocol", "sweep.grid.model=[tim,linear]", "dataset.root=/home/me/RAVDESS"]
    assert command_text("sweep.py", [*words, "encoder.path=../weights/whisper"]) == (
        'python sweep.py sweep=protocol "sweep.grid.model=[tim,linear]" dataset.root=…/RAVDESS '
        "encoder.path=../weights/whisper"
    )
    assert command_text("sweep.py", ['a=["b c=1",d]']) == """python sweep.py 'a=["b c=1",d]'"""
    assert command_text("sweep.py", ["a=$HOME it's"]).endswith("""'a=$HOME it'"'"'s'""")
