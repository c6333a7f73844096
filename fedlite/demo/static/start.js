// Starts the page; a classic script, because modules do not load from file: addresses.
"use strict";

(function () {
  function tell(text) {
    const problem = document.getElementById("problem");
    problem.textContent = text;
    problem.hidden = false;
    document.getElementById("main").hidden = true;
  }

  if (location.protocol === "file:") {
    tell(
      "This page has to come from a web server. In its folder run " +
        "`python -m http.server 8000`, then open http://localhost:8000.",
    );
    return;
  }
  import("./app.js")
    .then((app) => app.start())
    .catch((error) => tell(`The page cannot start: ${error.message}`));
})();
