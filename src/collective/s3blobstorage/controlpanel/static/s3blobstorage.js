// Moves the progress bars of jobs. Without it the pages have a link that loads them anew.
(function () {
  "use strict";

  const EVERY = 2000; // milliseconds; a job itself says where it stands every few seconds
  const AFTER_AN_ERROR = 10000;

  function follow(element) {
    const bar = element.querySelector("progress");
    const phase = element.querySelector(".s3b-phase");
    const said = element.querySelector(".s3b-said");

    function show(state) {
      if (state.share === null) {
        bar.removeAttribute("value");
      } else {
        bar.value = state.share;
      }
      phase.textContent = state.phase;
      said.textContent = state.said;
    }

    async function ask() {
      let wait = EVERY;
      try {
        const answer = await fetch(element.dataset.state, { headers: { Accept: "application/json" } });
        if (answer.ok) {
          const state = await answer.json();
          if (!state.running) {
            window.location.reload();
            return;
          }
          show(state);
        } else {
          wait = AFTER_AN_ERROR;
        }
      } catch {
        wait = AFTER_AN_ERROR;
      }
      window.setTimeout(ask, wait);
    }

    window.setTimeout(ask, EVERY);
  }

  document.querySelectorAll(".s3b-running[data-state]").forEach(follow);
})();
