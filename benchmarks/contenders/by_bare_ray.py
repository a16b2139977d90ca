# /// script
# dependencies = []
# [tool.bench]
# name = "bare Ray"
# here = true
# ///
"""Ray alone: start it, ask three actors, say so, end it. No sample on Ray can be quicker."""

from common import Task, run


def four_lines(task: Task):
    import ray

    ray.init(include_dashboard=False, logging_level="ERROR", log_to_driver=False)

    @ray.remote(num_cpus=0)
    class Actor:
        def answer(self):
            return 1

    actors = [Actor.remote() for _ in range(3)]
    print(sum(ray.get([actor.answer.remote() for actor in actors])), flush=True)
    ray.shutdown()


if __name__ == "__main__":
    run(globals())
