/** The page's two questions: a token, and whether to remove what cannot be had again. */

const PLAIN = /^[!-~]+$/; // what a header can hold, and no space

/** The token that was typed, or null where there is none. */
export async function askToken(dialog, refused) {
  const input = dialog.querySelector("input");
  const message = dialog.querySelector(".message");
  if (refused) message.textContent = "The server did not accept that token.";
  for (;;) {
    input.value = "";
    const token = (await ask(dialog)) === "yes" ? input.value.trim() : "";
    if (!token) return null;
    if (PLAIN.test(token)) return token;
    message.textContent =
      "That has a space, a curly quote or another character that no token has, perhaps one that " +
      "cannot be seen: copy the token anew.";
  }
}

export async function confirm(dialog, title, message) {
  dialog.querySelector("h2").textContent = title;
  dialog.querySelector(".message").textContent = message;
  return (await ask(dialog)) === "yes";
}

/** What the dialog was closed with; "" by Escape or by a button that only closes it. */
function ask(dialog) {
  dialog.returnValue = "";
  dialog.querySelector(".close")?.addEventListener("click", () => dialog.close(""), { once: true });
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true });
  });
}
