from waypost.local.flink import TaskManagerMemory


def test_parts_add_up_to_what_a_task_manager_is_promised() -> None:
    assert 1100 <= TaskManagerMemory().process <= 1400


def test_the_jvm_gets_what_flink_counts_on() -> None:
    memory = TaskManagerMemory(heap=1000, framework_heap=128, off_heap=64, framework_off_heap=128, network=64)

    assert "-Xmx1128m" in memory.jvm_flags()
    assert "-XX:MaxDirectMemorySize=256m" in memory.jvm_flags()
    assert memory.settings()["taskmanager.memory.task.heap.size"] == "1000m"
