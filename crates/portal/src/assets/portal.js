// Copies a key, forgets it when the page is left, and keeps a form from being sent twice. Everything works without it.
"use strict";

const status = document.querySelector("[data-status]");

for (const button of document.querySelectorAll("button[data-copy]")) {
  const source = document.getElementById(button.dataset.copy);
  button.hidden = false;
  button.addEventListener("click", async () => {
    let copied = true;
    try {
      await navigator.clipboard.writeText(source.textContent);
    } catch {
      // Not allowed, or not over HTTPS.
      getSelection().selectAllChildren(source);
      copied = document.execCommand("copy");
    }
    const said = copied ? "Copied" : "Marked: press Ctrl+C";
    button.textContent = said;
    if (status) status.textContent = said;
    setTimeout(() => {
      button.textContent = "Copy";
      if (status) status.textContent = "";
    }, 4000);
  });
}

for (const form of document.querySelectorAll("form[method=post]")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
  });
}

addEventListener("pagehide", () => {
  for (const secret of document.querySelectorAll("[data-secret]")) secret.textContent = "";
});

addEventListener("pageshow", () => {
  for (const form of document.forms) delete form.dataset.sent;
});
