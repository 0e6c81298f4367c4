// A classic script, for browsers and places in which the page's modules do not even start.
(function () {
  function say(text) {
    var line = document.getElementById("message");
    line.textContent = text;
    line.hidden = false;
  }
  if (location.protocol === "file:") {
    say("Opened as a file, this page may not read its modules and weights: run `make playground`.");
  } else if (!("noModule" in HTMLScriptElement.prototype) || typeof WebAssembly !== "object") {
    say("This page needs a browser with JavaScript modules and WebAssembly, of 2021 or later.");
  }
})();
