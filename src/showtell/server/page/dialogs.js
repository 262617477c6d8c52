/** The page's two questions: a token, and whether to remove what cannot be had again. */

/** The token that was typed, or null where there is none. */
export async function askToken(dialog, refused) {
  const input = dialog.querySelector("input");
  input.value = "";
  if (refused) dialog.querySelector(".message").textContent = "The server did not accept that token.";
  const answer = await ask(dialog);
  return answer === "yes" ? input.value.trim() || null : null;
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
