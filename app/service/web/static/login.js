"use strict";
document.getElementById("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const user = document.getElementById("user").value.trim();
  const secret = document.getElementById("password").value;
  const message = document.getElementById("message");
  const answer = await fetch("/api/v1/login", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(user ? { user: user, password: secret } : { token: secret }),
  });
  if (answer.ok) {
    location.replace("/");
    return;
  }
  message.textContent = (await answer.json()).error;
  message.hidden = false;
});
