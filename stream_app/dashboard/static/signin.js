const WRONG = { "?wrong": "Invalid token.", "?role": "This token does not have the role read." };
document.getElementById("wrong").textContent = WRONG[location.search] ?? "";
