const WRONG = { "?wrong": "That is no user's token.", "?role": "This token may not read the page." };
document.getElementById("wrong").textContent = WRONG[location.search] ?? "";
